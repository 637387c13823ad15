"""Faults of scripted models and of the manual clock."""

from __future__ import annotations

import re

from tests.mutants.mutant import mutant, replaces

from asynclm.conformance.v1 import scripted_model_pb2
from asynclm.engine.carrier import Carrier
from asynclm.engine.loop import EngineLoop
from asynclm.engine.planning import Planner
from asynclm.engine.script import Script, ScriptEnd, ScriptStore, ScriptText
from asynclm.server import hub, scripts
from asynclm.server.hub import SessionHub
from asynclm.session.effects import Inject
from asynclm.session.events import StepMasked, StreamEnded
from asynclm.session.machine import Session
from asynclm.session.state import FinishReason
from asynclm.session.timers import Timers


@mutant(violates=["SCR-002", "SCR-004"])
def text_pieces_are_stripped():
    """White space around a text piece of a script is not played."""

    @replaces(scripts, "script_from_pb")
    def _(original, pb):
        script = original(pb)
        steps = (ScriptText(s.text.strip() or s.text) if isinstance(s, ScriptText) else s for s in script.steps)
        return Script(script.id, tuple(steps))


@mutant(violates=["SCR-003", "SCR-004"], also={"*": "a script has characters of more than one byte"})
def steps_are_counted_in_characters():
    """LoadScript counts the characters of a text piece."""

    @replaces(hub, "step_ids")
    def _(original, step, codec):
        return tuple(step.text) if isinstance(step, ScriptText) else original(step, codec)


@mutant(violates=["SCR-003"], also={"*": "credit does not reach the end of a script"})
def ends_are_counted_as_nothing():
    """LoadScript counts no id for an end of sequence."""

    @replaces(hub, "step_ids")
    def _(original, step, codec):
        return () if isinstance(step, ScriptEnd) else original(step, codec)


@mutant(violates=["SCR-006", "WIRE-072"])
def masked_steps_are_charged():
    """A step that the mask forbids costs a credit."""

    @replaces(Session, "_step_masked")
    def _(original, self, event):
        original(self, event)
        if self._core.credit:
            self._core.credit -= 1


@mutant(violates=["SCR-006"], also={"*": "a masked step is told of"})
def masked_steps_are_not_told():
    """No notice tells of a step that the mask forbids."""

    @replaces(Carrier, "receive")
    def _(original, self, running, event, on_error=None):
        if not isinstance(event, StepMasked):
            original(self, running, event, on_error)


@mutant(violates=["SCR-007"])
def exhausted_scripts_end_the_session():
    """A script that is exhausted ends its session with SCRIPT_END."""

    @replaces(Planner, "_script_end")
    def _(original, self, running, mask):
        self._carrier.receive(running, StreamEnded(reason=FinishReason.SCRIPT_END))


@mutant(violates=["SCR-007"])
def exhausted_scripts_sample_what_is_masked():
    """A script that is exhausted inside a block samples end of sequence, mask or not."""

    @replaces(Planner, "_script_end")
    def _(original, self, running, mask):
        return scripts_end(running)

    def scripts_end(running):
        from asynclm.engine.base import StepRequest

        return StepRequest(running.sequence, None, min(running.engine.codec.eos_ids))


@mutant(violates=["SCR-008", "SCR-004"])
def interrupts_move_the_script():
    """What is left of a text piece when an interrupt is committed is not played."""

    @replaces(Carrier, "_carry_out")
    def _(original, self, running, effect):
        original(self, running, effect)
        if isinstance(effect, Inject) and running.player is not None:
            running.player._ids.clear()


@mutant(violates=["SCR-009"])
def loaded_scripts_stay():
    """A script that is loaded under a known id does not replace it."""

    @replaces(ScriptStore, "load")
    def _(original, self, script):
        if script.id not in self._scripts:
            original(self, script)


@mutant(violates=["SCR-010", "ERR-044", "SCR-011"])
def unknown_scripts_are_empty():
    """A script that was never loaded is an empty one."""

    @replaces(ScriptStore, "get")
    def _(original, self, script_id):
        found = original(self, script_id)
        return found or Script(script_id if re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", script_id) else "x", ())


@mutant(violates=["SCR-011"])
def reset_forgets_no_scripts():
    """Reset keeps the scripts."""

    @replaces(ScriptStore, "reset")
    def _(original, self):
        return None


@mutant(violates=["SCR-011"])
def reset_ends_no_sessions():
    """Reset leaves sessions on scripts running."""

    @replaces(SessionHub, "reset_scripts")
    async def _(original, self):
        self.scripts.reset()


@mutant(violates=["SCR-012"])
def scripts_of_any_name():
    """LoadScript takes any id."""

    @replaces(scripts, "script_from_pb")
    def _(original, pb):
        if re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", pb.id):
            return original(pb)
        return original(scripted_model_pb2.LoadScriptRequest(id="x", steps=pb.steps))


@mutant(violates=["SCR-012"])
def steps_without_content_are_skipped():
    """LoadScript passes over steps without content."""

    @replaces(scripts, "script_from_pb")
    def _(original, pb):
        steps = [step for step in pb.steps if step.WhichOneof("step")]
        return original(scripted_model_pb2.LoadScriptRequest(id=pb.id, steps=steps))


@mutant(violates=["SCR-022"], also={"calls/time-out-at-most limits/call-time": "two calls time out at the same moment"})
def equal_timers_fire_backwards():
    """Of timers that are due together, the last one made fires first."""

    @replaces(Timers, "start")
    def _(original, self, kind, due_ms, call_index=-1):
        timer = original(self, kind, due_ms, call_index)
        self._count -= 2
        return timer


@mutant(violates=["SCR-022", "WIRE-052", "SCR-020", "SCR-024", "SES-086", "TRAP-020"])
def timers_fire_at_the_end_of_advance():
    """Whatever falls due on the way of an Advance is told at its end."""

    @replaces(EngineLoop, "_advance")
    def _(original, self, session_id, ms):
        running = self._find(session_id)
        if ms < 0 or not running.manual:
            return original(self, session_id, ms)
        target = running.now_ms(0) + ms
        running.move_clock(target)
        self._carrier.tick(running)
        self._carrier.flush(running)
        return target


@mutant(violates=["SCR-022", "SCR-023", "SCR-021", "SCR-020", "SCR-024", "SES-086", "TRAP-020"])
def timers_fire_after_advance():
    """What is due fires with the next event, not before Advance returns."""

    @replaces(EngineLoop, "_advance")
    def _(original, self, session_id, ms):
        running = self._find(session_id)
        if ms < 0 or not running.manual:
            return original(self, session_id, ms)
        running.move_clock(running.now_ms(0) + ms)
        return running.now_ms(0)


@mutant(violates=["SCR-024", "WIRE-075", "SCR-022", "CALL-014"], also={"*": "time passes while there is no credit"})
def timers_need_credit():
    """Timers do not fire while a session has no credit."""

    @replaces(Session, "_advance")
    def _(original, self, now_ms):
        if self._core.credit != 0:
            return original(self, now_ms)
        self._core.now_ms = now_ms
        return []


@mutant(violates=["SCR-025"])
def time_goes_back_on_demand():
    """Advance takes a negative time as none."""

    @replaces(scripts.ScriptedModelService, "Advance")
    async def _(original, self, request, context):
        request.ms = max(0, request.ms)
        return await original(self, request, context)


@mutant(violates=["SCR-025"])
def unknown_sessions_can_be_advanced():
    """Advance of an unknown session is answered with OK."""

    @replaces(scripts.ScriptedModelService, "Advance")
    async def _(original, self, request, context):
        if self._hub.registry.get(request.session_id) is None:
            return scripted_model_pb2.AdvanceResponse()
        return await original(self, request, context)


@mutant(violates=["SCR-004", "CML-052"])
def control_words_of_scripts_are_tokens():
    """A text piece of a script that spells a control word is played as the control token."""
    from asynclm.cml.control import Control
    from asynclm.engine.script import ScriptControl

    words = {control.value: control for control in Control}

    @replaces(scripts, "script_from_pb")
    def _(original, pb):
        script = original(pb)
        steps = (
            ScriptControl(words[s.text]) if isinstance(s, ScriptText) and s.text in words else s for s in script.steps
        )
        return Script(script.id, tuple(steps))
