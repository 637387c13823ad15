"""Faults of sampling and of scripts on real weights."""

from __future__ import annotations

import dataclasses
import functools
import json

from tests.mutants.mutant import Served, mutant, replaces

from asynclm.conformance.v1 import scripted_model_pb2
from asynclm.engine import planning, script
from asynclm.engine.base import StepRequest
from asynclm.engine.planning import Planner
from asynclm.engine.script import (
    ScriptCopy,
    ScriptError,
    ScriptPlayer,
    ScriptRelease,
    ScriptSample,
)
from asynclm.engine.text_mask import free_text_bits
from asynclm.server import hub, scripts
from asynclm.server.preparation import Preparation
from asynclm.session.events import StreamEnded
from asynclm.session.state import FinishReason
from asynclm.wire import start

on_weights = functools.partial(mutant, served=Served.TORCH)


def sampled_with(**settings: float) -> None:
    """Whatever a client asks for, tokens are sampled with these settings."""

    @replaces(start, "_sampling")
    def _(original, pb):
        return dataclasses.replace(original(pb), **settings)


# --- sampling ----------------------------------------------------------------------------------------------------


@on_weights(violates=["SES-115"])
def temperature_0_is_hot():
    """Temperature 0 counts as 3."""

    @replaces(start, "_sampling")
    def _(original, pb):
        asked = original(pb)
        return dataclasses.replace(asked, temperature=asked.temperature or 3.0)


@on_weights(violates=["SES-115"])
def absent_temperature_is_hot():
    """Where Start names no temperature, it is 3."""

    @replaces(start, "_sampling")
    def _(original, pb):
        asked = original(pb)
        return asked if pb.HasField("temperature") else dataclasses.replace(asked, temperature=3.0)


@on_weights(violates=["SES-110"])
def top_k_is_passed_over():
    """top_k changes nothing."""
    sampled_with(top_k=0)


@on_weights(violates=["SES-110"])
def top_p_is_passed_over():
    """top_p changes nothing."""
    sampled_with(top_p=1.0)


# --- scripts on weights ------------------------------------------------------------------------------------------


@on_weights(violates=["SCR-030"], also={"scripts/copied-* scripts/sampled-*": "no script on weights is played"})
def weights_have_their_way():
    """With weights, what a script wants is not forced: the model samples by itself."""

    @replaces(Planner, "_script_step")
    def _(original, self, running, player):
        wish = original(self, running, player)
        if wish is None or wish.forced is None or running.engine.info.name != "torch":
            return wish
        return StepRequest(running.sequence, free_text_bits(running.engine, in_string=False))


@on_weights(violates=["SCR-025", "SCR-030"])
def scripts_on_weights_have_a_manual_clock():
    """The clock of a script on weights is moved by Advance."""

    @replaces(Preparation, "prepare")
    async def _(original, self, asked):
        prepared = await original(self, asked)
        return dataclasses.replace(prepared, manual_clock=prepared.script is not None)


@on_weights(violates=["SCR-031"])
def sample_steps_sample_one_less():
    """A sample step samples a token less than it says."""

    @replaces(ScriptPlayer, "_begin")
    def _(original, self, step, resolve):
        if isinstance(step, ScriptSample) and step.max_tokens > 1:
            step = dataclasses.replace(step, max_tokens=step.max_tokens - 1)
        original(self, step, resolve)


@on_weights(
    violates=["SCR-031"], also={"sampling/* scripts/sampled-in-a-string": "what is sampled there is a sample step's"}
)
def sample_steps_end_the_answer():
    """A sample step samples end of sequence in the end."""

    @replaces(ScriptPlayer, "next")
    def _(original, self, allows, resolve):
        if self._sampling is not None and self._sampled >= self._sampling.max_tokens:
            self._position = len(self._steps)
        return original(self, allows, resolve)


@on_weights(violates=["SCR-033"])
def strings_are_sampled_freely():
    """A sample step with in_string samples quotes and line ends, too."""

    @replaces(planning, "free_text_bits")
    def _(original, engine, *, in_string):
        return original(engine, in_string=False)


@on_weights(violates=["SCR-032"])
def values_are_copied_unescaped():
    """A copy step with in_string writes the value without escapes."""

    @replaces(script, "_copied")
    def _(original, value, *, in_string):
        loaded = json.loads(value)
        return loaded if in_string and isinstance(loaded, str) else original(value, in_string=in_string)


@on_weights(violates=["SCR-032"])
def values_are_copied_as_floats():
    """A copy step does not write a number as the result has it."""

    @replaces(script, "_copied")
    def _(original, value, *, in_string):
        return original(value if in_string else json.dumps(json.loads(value)), in_string=in_string)


@on_weights(violates=["SCR-032"])
def values_that_are_not_there_are_null():
    """A copy of a value that is not there writes null."""

    @replaces(ScriptPlayer, "_begin")
    def _(original, self, step, resolve):
        original(self, step, lambda reference: resolve(reference) or "null")


@on_weights(violates=["SCR-032"])
def values_that_are_not_there_end_the_answer():
    """A copy of a value that is not there ends the answer as the model would."""

    @replaces(ScriptPlayer, "next")
    def _(original, self, allows, resolve):
        try:
            return original(self, allows, resolve)
        except ScriptError:
            self._position = len(self._steps)
            return None


@on_weights(violates=["SCR-034"])
def release_is_the_end():
    """Release finishes the session."""

    @replaces(Planner, "_script_step")
    def _(original, self, running, player):
        if player._steps and isinstance(player._steps[-1], ScriptRelease) and player._position == len(player._steps):
            self._carrier.receive(running, StreamEnded(reason=FinishReason.SCRIPT_END))
            return None
        return original(self, running, player)


@on_weights(violates=["SCR-035"])
def steps_behind_release_are_taken():
    """LoadScript takes a script that goes on behind release."""

    @replaces(scripts, "script_from_pb")
    def _(original, pb):
        last = [place for place, step in enumerate(pb.steps, 1) if step.HasField("release")] or [len(pb.steps)]
        return original(scripted_model_pb2.LoadScriptRequest(id=pb.id, steps=pb.steps[: last[0]]))


@on_weights(violates=["SCR-003"])
def words_yet_unknown_are_counted():
    """LoadScript answers with 1 for a step of which only the run can tell how long it is."""

    @replaces(hub, "step_ids")
    def _(original, step, codec):
        return (0,) if isinstance(step, ScriptSample | ScriptCopy) else original(step, codec)
