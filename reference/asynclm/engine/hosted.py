"""The seam for engines that decode elsewhere: pieces of text come in by themselves, and nothing is masked or stepped.

A hosted session stands where an engine does, with one sequence, so that the loop, the carrier and the server treat it
like any other; what differs is that a step takes what has arrived and never computes. Whatever speaks to the other side
runs on threads of its own and tells the loop when there is something to take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import TypeIs

from asynclm.cml.codec import Codec
from asynclm.engine.base import Engine, EngineInfo, EngineStats, SamplingParams, SequenceId
from asynclm.engine.script import Script
from asynclm.prompt.template import Message
from asynclm.session.effects import HostedUsage, InterruptCommitted
from asynclm.session.mask import Mask
from asynclm.session.state import FinishReason


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that arrived, cut so that nothing stands behind a control word [WIRE-074]."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The other side has nothing more to say: the end of a sequence, or a reason to finish the session."""

    reason: FinishReason | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Restarted:
    """What follows is the answer to a request that was begun anew."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """Text that was said again and left out [SES-120]."""

    text: str


Arrival = Piece | Ended | Restarted | Repeated


class HostedSession(Protocol):
    """One session on a hosted model; its first seven members are those of `Engine` that the loop uses."""

    @property
    def info(self) -> EngineInfo:
        """What it is served by."""
        ...

    @property
    def codec(self) -> Codec:
        """The text form."""
        ...

    def open(self, prompt_ids: Sequence[int], sampling: SamplingParams, *, adapter: str | None = None) -> SequenceId:
        """Begins the one sequence; prompt and sampling are known already."""
        ...

    def cached_tokens(self, sequence: SequenceId) -> int:
        """How much of the prompt the other side found in a cache, as it says."""
        ...

    def give_way(self) -> None:
        """Something has arrived that the running step should have held: no step runs."""
        ...

    def suspend(self, sequence: SequenceId, expected_wait_ms: int | None) -> None:
        """Nothing more is taken for now; what has arrived is no part of the context."""
        ...

    def resume(self, sequence: SequenceId) -> None:
        """Steps are expected again."""
        ...

    def close(self, sequence: SequenceId) -> None:
        """The session is over."""
        ...

    def want(self) -> None:
        """A step is expected: asks the other side to go on, if it is not at it already."""
        ...

    @property
    def available(self) -> bool:
        """Whether there is something to take."""
        ...

    def take(self) -> Arrival | None:
        """The next arrival, in order; None if there is none yet."""
        ...

    def interrupt(self, interrupts: Sequence[InterruptCommitted]) -> None:
        """What stands in the context from here on; what has arrived and was not taken is no part of it."""
        ...

    def cost(self) -> HostedUsage:
        """What the session has cost so far; called once it is closed [SES-116]."""
        ...

    def cut(self, *, forged: bool) -> None:
        """The model is stopped: what it goes on to say is no part of the context.

        Args:
            forged: it wrote `[INTR]`, the last that was taken, which is no part of it either [SEC-005].
        """
        ...

    def listen(self, arrived: Callable[[], None]) -> None:
        """Sets what is called, on any thread, when there is something to take again."""
        ...


class HostedModel(Protocol):
    """A model on a hosted interface."""

    @property
    def info(self) -> EngineInfo:
        """What it serves."""
        ...

    @property
    def codec(self) -> Codec:
        """The text form."""
        ...

    @property
    def plays_scripts(self) -> bool:
        """Whether the other side plays scripts."""
        ...

    def session(self, messages: Sequence[Message], sampling: SamplingParams, *, script: str | None) -> HostedSession:
        """Makes a session; nothing is asked of the other side before a step is wanted.

        Args:
            messages: the whole prompt.
            sampling: how its tokens are chosen.
            script: the id of a script that speaks for the model, or None.
        """
        ...

    async def load(self, script: Script) -> list[int]:
        """Makes the other side play a script; gives the number of units of each step.

        Raises:
            ScriptError: the other side plays no scripts.
        """
        ...

    def count(self, messages: Sequence[Message]) -> int:
        """About how many tokens a prompt has."""
        ...

    def stats(self) -> EngineStats:
        """What it has done."""
        ...

    def shutdown(self) -> None:
        """Frees everything."""
        ...


def hosted(engine: Engine | HostedModel) -> TypeIs[HostedModel]:
    """Whether a model decodes elsewhere."""
    return hasattr(engine, "session")


class Unmasked:
    """The constraint of a model that cannot be masked, and of its sessions."""

    unenforced: tuple[str, ...] = ()

    def session(self) -> Unmasked:
        """It keeps nothing of a session."""
        return self

    def bits(self, mask: Mask) -> None:
        """Everything may be sampled."""

    def allows(self, mask: Mask, token_id: int) -> bool:
        """Everything may be sampled."""
        return True

    def accept(self, token_id: int) -> None:
        """Nothing follows from it."""
