"""What a session asks of the next decode step: a token under its mask, or one that its script forces."""

from __future__ import annotations

import functools

from asynclm.engine.base import Bits, MaskSource, StepRequest
from asynclm.engine.carrier import Carrier
from asynclm.engine.constraints import SessionConstraint
from asynclm.engine.running import Running
from asynclm.engine.script import Forbidden, Force, Free, Own, ScriptPlayer
from asynclm.engine.text_mask import free_text_bits
from asynclm.session.events import StepMasked, StreamEnded
from asynclm.session.mask import Kind, Mask
from asynclm.session.state import FinishReason


class Planner:
    """Plans steps on the loop's thread. A session that can step gets here once before each step."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    def plan(self, running: Running) -> StepRequest | None:
        """The session's request, after its safe point; None if it takes no step after all."""
        if running.unanswered is not None:
            return running.unanswered
        machine = running.machine
        effects = machine.safe_point()
        if effects:
            self._carrier.apply(running, effects)
            if running.over or not machine.can_step:
                return None
        if running.player is not None:
            return self._script_step(running, running.player)
        mask = machine.mask()
        if mask is not running.mask:  # seldom: the machine gives the same one while it holds
            running.mask = mask
            running.request = StepRequest(running.sequence, _source(running, mask))
        return running.request

    def _script_step(self, running: Running, player: ScriptPlayer) -> StepRequest | None:
        machine = running.machine
        while machine.can_step:
            running.mask = mask = machine.mask()
            running.sampling_freely = False
            wish = player.next(functools.partial(running.constraint.allows, mask), machine.resolve_reference)
            match wish:
                case Force(token_id):
                    return StepRequest(running.sequence, None, token_id)
                case Free(in_string):
                    running.sampling_freely = True
                    return StepRequest(running.sequence, free_text_bits(running.engine, in_string=in_string))
                case Own():
                    return StepRequest(running.sequence, _source(running, mask))
                case Forbidden(what):
                    self._carrier.receive(running, StepMasked(token=what))
                case None:
                    return self._script_end(running, mask)
        return None

    def _script_end(self, running: Running, mask: Mask) -> StepRequest | None:
        """An exhausted script samples end of sequence, or finishes SCRIPT_END if that is masked [SCR-007]."""
        if Kind.EOS in mask.kinds:
            return StepRequest(running.sequence, None, min(running.engine.codec.eos_ids))
        self._carrier.receive(running, StreamEnded(reason=FinishReason.SCRIPT_END))
        return None


class _GrammarMask:
    """A session's mask inside a block under GRAMMAR; an `asynclm.engine.base.LazyMask`."""

    __slots__ = ("_constraint", "_mask")

    def __init__(self, constraint: SessionConstraint, mask: Mask) -> None:
        self._constraint = constraint
        self._mask = mask

    def __call__(self) -> Bits:
        return self._constraint.bits(self._mask)

    def allows(self, token_id: int) -> bool:
        return self._constraint.allows(self._mask, token_id)


def _source(running: Running, mask: Mask) -> MaskSource:
    """The mask's bits where they are only looked up; where a grammar is consulted, what asks it."""
    if mask.block_rule is None:
        return running.constraint.bits(mask)
    return _GrammarMask(running.constraint, mask)
