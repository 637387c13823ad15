"""Expected faults as one line and an exit code; anything else is a fault of this program.

Fault classes are looked up among the modules that are loaded, so that saying what went wrong costs no imports.
"""

from __future__ import annotations

import sys

from asynclm.cli.exit_codes import ExitCode


class CliError(Exception):
    """A fault that the user can do something about; the message names the field, the value and what is allowed."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


_KNOWN = (
    ("asynclm.tools.load", "ToolLoadError", ExitCode.USAGE),
    ("asynclm.engine.base", "ModelError", ExitCode.USAGE),
    ("asynclm.engine.base", "UnknownModelError", ExitCode.USAGE),
    ("asynclm.engine.base", "EngineError", ExitCode.TARGET),
    ("asynclm.server.app", "PortError", ExitCode.USAGE),
    ("asynclm.engine.script", "ScriptError", ExitCode.USAGE),
    ("asynclm.client.errors", "AsyncLMError", ExitCode.TARGET),
    ("asynclm.wire.errors", "StatusError", ExitCode.TARGET),
    ("asynclm.wire.errors", "WireError", ExitCode.TARGET),
)

_ASKED_WRONGLY = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED"})
"""Status codes by which a target says that what was asked for cannot be."""


def explain(error: BaseException) -> CliError | None:
    """An expected fault as the user should read it; None for a fault of this program."""
    if isinstance(error, CliError):
        return error
    if isinstance(error, BaseExceptionGroup):
        known = [explain(part) for part in error.exceptions]
        return next((part for part in known if part is not None), None) if all(known) else None
    for module, name, code in _KNOWN:
        known_type = getattr(sys.modules.get(module), name, None)
        if known_type is not None and isinstance(error, known_type):
            return CliError(_one_line(error), _status_exit_code(error, code))
    if isinstance(error, OSError) and error.filename is not None:
        return CliError(f"{error.filename}: {error.strerror}")
    return None


def _status_exit_code(error: BaseException, code: ExitCode) -> ExitCode:
    status = getattr(error, "code", None)
    return ExitCode.USAGE if getattr(status, "name", None) in _ASKED_WRONGLY else code


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
