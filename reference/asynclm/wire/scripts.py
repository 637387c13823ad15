"""Scripts of scripted models, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterable

from asynclm.cml.blocks import CmlError, Reference
from asynclm.cml.references import format_reference, parse_reference
from asynclm.conformance.v1 import scripted_model_pb2
from asynclm.engine.script import (
    Script,
    ScriptControl,
    ScriptCopy,
    ScriptEnd,
    ScriptError,
    ScriptRelease,
    ScriptSample,
    ScriptStep,
    ScriptText,
)
from asynclm.wire import enums
from asynclm.wire.errors import FieldError, shorten

_SCRIPT_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def script_from_pb(pb: scripted_model_pb2.LoadScriptRequest) -> Script:
    """A script as a client loads it.

    Raises:
        FieldError: a field is not allowed.
    """
    if not _SCRIPT_ID.fullmatch(pb.id):
        raise FieldError("id", f"is {shorten(pb.id)}; 1 to 128 letters, digits, _, - and . [SCR-012]")
    steps = tuple(_step(step, f"steps[{position}]") for position, step in enumerate(pb.steps))
    try:
        return Script(pb.id, steps)
    except ScriptError as error:
        raise FieldError("steps", f"is not allowed: {error}") from None


def _step(pb: scripted_model_pb2.ScriptStep, path: str) -> ScriptStep:
    try:
        match pb.WhichOneof("step"):
            case "text":
                return ScriptText(pb.text)
            case "control":
                control = enums.CONTROL.given(pb.control, f"{path}.control")
                if control is None:
                    raise FieldError(f"{path}.control", "is not given")
                return ScriptControl(control)
            case "end_of_sequence":
                return ScriptEnd()
            case "sample":
                return ScriptSample(pb.sample.max_tokens, tuple(pb.sample.stop), pb.sample.in_string)
            case "copy":
                return ScriptCopy(_reference(pb.copy.reference, f"{path}.copy.reference"), pb.copy.in_string)
            case "release":
                return ScriptRelease()
            case None:
                raise FieldError(path, "is empty; give text, control, end_of_sequence, sample, copy or release")
    except ScriptError as error:
        raise FieldError(path, f"is not allowed: {error}") from None


def script_to_pb(
    id: str, steps: Iterable[ScriptStep], model: str | None = None
) -> scripted_model_pb2.LoadScriptRequest:
    """A script to load."""
    return scripted_model_pb2.LoadScriptRequest(id=id, steps=[_step_to_pb(step) for step in steps], model=model)


def _step_to_pb(step: ScriptStep) -> scripted_model_pb2.ScriptStep:
    match step:
        case ScriptText(text):
            return scripted_model_pb2.ScriptStep(text=text)
        case ScriptControl(control):
            return scripted_model_pb2.ScriptStep(control=enums.CONTROL.number(control))
        case ScriptEnd():
            return scripted_model_pb2.ScriptStep(end_of_sequence=scripted_model_pb2.EndOfSequence())
        case ScriptSample(max_tokens, stop, in_string):
            sample = scripted_model_pb2.Sample(max_tokens=max_tokens, stop=stop, in_string=in_string)
            return scripted_model_pb2.ScriptStep(sample=sample)
        case ScriptCopy(reference, in_string):
            copy = scripted_model_pb2.Copy(reference=format_reference(reference), in_string=in_string)
            return scripted_model_pb2.ScriptStep(copy=copy)
        case ScriptRelease():
            return scripted_model_pb2.ScriptStep(release=scripted_model_pb2.Release())


def _reference(text: str, path: str) -> Reference:
    try:
        return parse_reference(text)
    except CmlError as error:
        raise FieldError(path, f"is {shorten(text)}: {error}") from None
