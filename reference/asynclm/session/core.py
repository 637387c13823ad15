"""What the parts of one session's machine share: settings, state, queue, calls, timers, counters, outbox."""

from __future__ import annotations

from asynclm.cml.codec import Codec
from asynclm.cml.control import Status
from asynclm.session.calls import CallRegistry
from asynclm.session.config import SessionConfig
from asynclm.session.copying import Copying
from asynclm.session.effects import InterruptAccepted, Ledger, Notice, Usage
from asynclm.session.outbox import Outbox, Phase
from asynclm.session.queue import Accepted, InterruptQueue
from asynclm.session.state import NoticeCode, Scheduling, State
from asynclm.session.timers import Timers
from asynclm.session.transitions import SESSION, WAITING, Cell, Trigger


class Core:
    """The shared data of a machine's parts; each part owns the rules of one page of the spec.

    Attributes:
        token_index: stream tokens so far.
        input_index: `token_index` at the start of the input that is being applied; what is emitted before that
            input's own `Tokens` carries it.
        sampled, injected: stream tokens by origin [INT-046].
        cached: prompt tokens that the engine found in a cache [SES-095].
        credit: tokens that may be sampled; None for unlimited.
        output_held: the client does not read or acknowledge, so that decode steps have to wait [WIRE-061, WIRE-094].
        unacknowledged: of the two, it does not acknowledge.
        half_closed: the client will send nothing more [SES-082].
        awaiting_commit: decoding resumes after a wait, so the next step may not run before the commit.
    """

    def __init__(self, config: SessionConfig, codec: Codec, now_ms: int) -> None:
        self.config = config
        self.codec = codec
        self.cell: Cell[State, Trigger] = Cell(State.DECODING, SESSION)
        self.out = Outbox()
        self.queue = InterruptQueue()
        self.calls = CallRegistry()
        self.timers = Timers()
        self.copying = Copying(config)
        self.now_ms = now_ms
        self.token_index = 0
        self.input_index = 0
        self.sampled = 0
        self.injected = 0
        self.cached = 0
        self.credit = config.credit
        self.paused = False
        self.output_held = False
        self.unacknowledged = False
        self.half_closed = False
        self.awaiting_commit = False

    @property
    def finished(self) -> bool:
        """Whether the session is over."""
        return self.cell.state is State.FINISHED

    @property
    def context_used(self) -> int:
        """Prompt and stream tokens."""
        return self.config.prompt_tokens + self.token_index

    @property
    def usage(self) -> Usage:
        """Token counts."""
        return Usage(
            prompt_tokens=self.config.prompt_tokens,
            cached_tokens=self.cached,
            sampled_tokens=self.sampled,
            injected_tokens=self.injected,
        )

    @property
    def ledger(self) -> Ledger:
        """The account so far."""
        return Ledger(tuple(c.row() for c in self.calls), tuple(i.row() for i in self.queue.record))

    def accept(
        self,
        source: str,
        status: Status,
        payload: str,
        scheduling: Scheduling = Scheduling.IMMEDIATE,
        *,
        call_index: int | None = None,
        client_seq: int = 0,
    ) -> Accepted:
        """Queues an interrupt that was checked or that the runtime makes itself [INT-025]."""
        interrupt = self.queue.add(
            source,
            status,
            payload,
            scheduling,
            call_index=call_index,
            released=self.cell.state in WAITING,
            sampled=self.sampled,
        )
        report = InterruptAccepted(
            token_index=self.input_index,
            number=interrupt.number,
            source=source,
            status=status,
            scheduling=scheduling,
            client_seq=client_seq,
        )
        self.out.add(Phase.ACCEPTED, report)
        return interrupt

    def notice(self, code: NoticeCode, message: str) -> None:
        """Tells the client something that changed nothing."""
        self.out.add(Phase.TOKENS, Notice(token_index=self.token_index, code=code, message=message))
