"""Probes: what the state is once nothing can happen by itself (spec: protocol, section 6)."""

from __future__ import annotations

from asynclm.session.core import Core
from asynclm.session.effects import Probed
from asynclm.session.outbox import Phase


class Probes:
    """Keeps probes until they can be answered; changes nothing else [WIRE-084]."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._waiting: list[str] = []

    @property
    def waiting(self) -> bool:
        """Whether there is a probe that has no answer."""
        return bool(self._waiting)

    def ask(self, nonce: str) -> None:
        """Keeps a probe."""
        self._waiting.append(nonce)

    def answer(self) -> None:
        """Answers every probe: no decode step can run, or nothing limits them and one is about to [WIRE-081]."""
        if not self._waiting:
            return
        core = self._core
        waiting, self._waiting = self._waiting, []
        for nonce in waiting:
            report = Probed(
                token_index=core.token_index,
                nonce=nonce,
                state=core.cell.state,
                credit=core.credit,
                paused=core.paused,
                queued=len(core.queue),
                unresolved=tuple(call.id for call in core.calls.unresolved if call.id is not None),
            )
            core.out.add(Phase.PROBED, report)
