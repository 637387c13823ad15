"""Bearer tokens out of files, never off the command line, where every process could read them."""

from __future__ import annotations

from pathlib import Path

from asynclm.cli.faults import CliError


def read_token(path: Path | None) -> str | None:
    """The token that a file holds; None without a file.

    Raises:
        CliError: the file cannot be read, or holds something else.
    """
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"--token-file {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CliError(f"--token-file {path}: has to hold one token of printable ASCII without spaces")
    return token
