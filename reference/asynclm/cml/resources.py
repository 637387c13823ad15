"""Data files of the project: the grammar, the protocol and the specification, wherever it is installed."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def resource(path: str) -> Traversable:
    """Finds a file or folder such as `grammar/cml.lark`: in the wheel's `asynclm/_data`, else in the repository.

    Raises:
        FileNotFoundError: it is in neither.
    """
    packaged = files("asynclm").joinpath("_data", path)
    if packaged.is_file() or packaged.is_dir():
        return packaged
    checkout = Path(__file__).parents[3] / path
    if checkout.exists():
        return checkout
    raise FileNotFoundError(f"resource {path!r}: neither in asynclm/_data nor in the repository; reinstall the package")
