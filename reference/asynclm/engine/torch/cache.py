"""The cache folder: what is fetched or converted once, published whole or not at all.

A folder is built under a temporary name and renamed when it is complete, so a process killed in the middle leaves
no broken entry; a file lock, freed by the system when its holder dies, keeps two processes from building the same.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

CACHE_VARIABLE = "ASYNCLM_CACHE"
"""Environment variable that names another cache folder."""


def cache_root() -> Path:
    """The cache folder: `$ASYNCLM_CACHE`, or the platform's cache folder for `asynclm`."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).expanduser() if override else user_cache_path("asynclm")


def cached(name: str) -> Path | None:
    """The complete entry of this name, or None."""
    folder = cache_root() / name
    return folder if folder.is_dir() else None


def publish(name: str, build: Callable[[Path], None]) -> Path:
    """The entry of this name; builds it first if it is not there.

    Args:
        name: the entry's name, one path component that changes with its content.
        build: fills an empty folder; called at most once, under a lock that spans processes.

    Returns:
        The entry's folder, complete.

    Raises:
        OSError: the cache folder cannot be written.
    """
    root = cache_root()
    target = root / name
    if target.is_dir():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):
        if target.is_dir():
            return target
        for leftover in root.glob(f".{name}.*.partial"):  # of a process that was killed: we hold the lock
            shutil.rmtree(leftover, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=root))
        try:
            build(partial)
            _sync(partial)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def _sync(folder: Path) -> None:
    """Puts the files on the disk before the rename makes them visible, lest a power cut leave empty ones."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
