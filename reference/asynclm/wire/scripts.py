"""Scripts of scripted models, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterable

from asynclm.cml.blocks import Reference
from asynclm.cml.control import NAME
from asynclm.conformance.v1 import scripted_model_pb2
from asynclm.engine.script import (
    Script,
    ScriptControl,
    ScriptCopy,
    ScriptEnd,
    ScriptError,
    ScriptSample,
    ScriptStep,
    ScriptText,
)
from asynclm.wire import enums
from asynclm.wire.errors import FieldError, shorten

_STEP = re.compile(rf"\.({NAME.pattern})|\[(0|[1-9][0-9]{{0,17}})\]", re.ASCII)


def script_from_pb(pb: scripted_model_pb2.LoadScriptRequest) -> Script:
    """A script as a client loads it.

    Raises:
        FieldError: a field is not allowed.
    """
    steps = tuple(_step(step, f"steps[{position}]") for position, step in enumerate(pb.steps))
    try:
        return Script(pb.id, steps)
    except ScriptError as error:
        raise FieldError("id", f"is not allowed: {error}") from None


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
                return ScriptCopy(parse_reference(pb.copy.reference, f"{path}.copy.reference"), pb.copy.in_string)
            case None:
                raise FieldError(path, "is empty; give text, control, end_of_sequence, sample or copy")
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
            copy = scripted_model_pb2.Copy(reference=write_reference(reference), in_string=in_string)
            return scripted_model_pb2.ScriptStep(copy=copy)


def parse_reference(text: str, path: str) -> Reference:
    """Reads a reference as it is written in a call's body: `chair.email`, `pages[0].title`.

    Raises:
        FieldError: it is not one.
    """
    head = NAME.match(text)
    position = head.end() if head else -1
    steps: list[str | int] = []
    while 0 <= position < len(text):
        step = _STEP.match(text, position)
        if step is None:
            position = -1
            break
        steps.append(step[1] if step[1] is not None else int(step[2]))
        position = step.end()
    if head is None or position < 0:
        raise FieldError(path, f"is {shorten(text)}; an id, then .name and [index] steps")
    return Reference(head[0], tuple(steps))


def write_reference(reference: Reference) -> str:
    """Writes a reference as in a call's body."""
    return reference.id + "".join(f".{s}" if isinstance(s, str) else f"[{s}]" for s in reference.path)
