"""Scripts as JSON: what `POST /admin/scripts/{id}` takes, and `--script` files hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asynclm_adapters.openai_mock.errors import bad_request
from asynclm_adapters.openai_mock.fields import check_type, one_of, read, required, type_name
from asynclm_adapters.openai_mock.pieces import (
    FINISH_REASONS,
    Delta,
    Drop,
    EmptyChoices,
    Failure,
    Finish,
    Piece,
    Raw,
    Stall,
)
from asynclm_adapters.openai_mock.scripts import Script


def read_script(script_id: str, body: Mapping[str, Any]) -> Script:
    """A script out of `{"pieces": [...], "ignore_stop": false}`.

    Raises:
        ApiError: 400; its message names the field and what is allowed.
    """
    _only(body, ("pieces", "ignore_stop"), "")
    pieces: list[Any] = required(body, "pieces", "an array")
    ignore_stop = bool(read(body, "ignore_stop", "a boolean"))
    read_pieces = tuple(_piece(piece, f"pieces[{number}]") for number, piece in enumerate(pieces))
    return Script(script_id, read_pieces, ignore_stop)


def _piece(piece: Any, path: str) -> Piece:
    if isinstance(piece, str):
        return Delta(piece)
    if not isinstance(piece, Mapping):
        said = f"Invalid type for '{path}': expected a string or an object, but got {type_name(piece)} instead."
        raise bad_request(said, path, "invalid_type")
    kinds = [name for name in _READERS if name in piece]
    if len(kinds) != 1:
        names = ", ".join(_READERS)
        raise bad_request(f"Invalid '{path}': it has to have exactly one of {names}.", path, "invalid_value")
    return _READERS[kinds[0]](piece, path)


def _only(body: Mapping[str, Any], allowed: tuple[str, ...], path: str) -> None:
    for name in body:
        if name not in allowed:
            where = f"{path}.{name[:80]}" if path else name[:80]
            raise bad_request(f"Unknown parameter: '{where}'. Allowed: {', '.join(allowed)}.", where)


def _error(piece: Mapping[str, Any], path: str) -> Piece:
    _only(piece, ("error", "retry_after", "code", "message"), path)
    status: int = required(piece, "error", "an integer", path)
    if not 400 <= status <= 599:
        raise bad_request(f"Invalid '{path}.error': {status}; allowed: 400 to 599.", f"{path}.error")
    retry_after = read(piece, "retry_after", "a decimal", path)
    if retry_after is not None and retry_after < 0:
        raise bad_request(f"Invalid '{path}.retry_after': {retry_after}; allowed: 0 or more.", f"{path}.retry_after")
    code, message = read(piece, "code", "a string", path), read(piece, "message", "a string", path)
    return Failure(status, retry_after, code, message)


def _finish(piece: Mapping[str, Any], path: str) -> Piece:
    _only(piece, ("finish",), path)
    reason = required(piece, "finish", "a string", path)
    one_of(reason, f"{path}.finish", FINISH_REASONS)
    return Finish(reason)


def _raw(piece: Mapping[str, Any], path: str) -> Piece:
    _only(piece, ("raw",), path)
    return Raw(required(piece, "raw", "a string", path))


def _flag(name: str, meant: Piece) -> Callable[[Mapping[str, Any], str], Piece]:
    def reader(piece: Mapping[str, Any], path: str) -> Piece:
        _only(piece, (name,), path)
        value = piece[name]
        check_type(value, f"{path}.{name}", "a boolean")
        if not value:
            raise bad_request(f"Invalid '{path}.{name}': false; allowed: true.", f"{path}.{name}")
        return meant

    return reader


_READERS: dict[str, Callable[[Mapping[str, Any], str], Piece]] = {
    "error": _error,
    "finish": _finish,
    "raw": _raw,
    "drop": _flag("drop", Drop()),
    "stall": _flag("stall", Stall()),
    "empty_choices": _flag("empty_choices", EmptyChoices()),
}
