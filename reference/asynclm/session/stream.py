"""The life of a sampled token: counted, reported, parsed; what a closed block asks for is done (spec: sessions)."""

from __future__ import annotations

from asynclm.cml.blocks import Call, CmlErrorCode, Malformed, ParsedBlock, Trap
from asynclm.cml.codec import EOS
from asynclm.cml.control import Control, Quantifier, Status
from asynclm.cml.parser import BlockClosed, BlockOpened, Dropped, ParseEvent, TextRead
from asynclm.session.cancelling import Cancelling
from asynclm.session.config import ExecutionMode, OnEnd, Unit
from asynclm.session.core import Core
from asynclm.session.desk import CallDesk
from asynclm.session.effects import Tokens
from asynclm.session.ending import Ending
from asynclm.session.events import StreamEnded, TokenSampled
from asynclm.session.hold import Hold
from asynclm.session.outbox import Phase
from asynclm.session.payloads import error_payload
from asynclm.session.reader import Reader
from asynclm.session.replays import Replays
from asynclm.session.state import ErrorType, FinishReason, NoticeCode, State
from asynclm.session.transitions import STEPPING, Trigger
from asynclm.session.waits import Waits

END_OF_SEQUENCE = "end_of_sequence"
STOP_STRING = "stop_string"
LENGTH = "length"

_OPENED = {
    Control.CALL: Trigger.CALL_OPENED,
    Control.TRAP: Trigger.TRAP_OPENED,
    Control.INTR: Trigger.FORGERY_OPENED,
}


_WITHOUT_END = (CmlErrorCode.OPEN_IN_BLOCK, CmlErrorCode.UNTERMINATED)
"""What is wrong with a block that no `[END]` closed."""


class Stream:
    """Takes what the model samples."""

    def __init__(
        self,
        core: Core,
        reader: Reader,
        hold: Hold,
        replays: Replays,
        desk: CallDesk,
        cancelling: Cancelling,
        waits: Waits,
        ending: Ending,
    ) -> None:
        self._core = core
        self._reader = reader
        self._hold = hold
        self._replays = replays
        self._desk = desk
        self._cancelling = cancelling
        self._waits = waits
        self._ending = ending
        self._keep = core.config.on_end is OnEnd.KEEP
        self._max_new_tokens = core.config.limits.max_new_tokens

    def sampled(self, event: TokenSampled) -> None:
        """One unit was sampled: one token index, one credit, whatever it holds."""
        core = self._core
        reader = self._reader
        in_block = reader.parser.open_block
        items = reader.decode(event)
        index = core.token_index
        core.token_index += 1
        core.sampled += 1
        if core.credit is not None:
            core.credit -= 1
        if in_block is not None:
            reader.block_tokens += 1
        text, control, ended = "", None, False
        for item in items:
            if isinstance(item, str):
                text += item
            elif isinstance(item, Control):
                control = item
            else:
                ended = True
        report = Tokens(
            token_index=index,
            ids=(event.token_id,) if event.piece is None else (),
            text=text,
            control=control,
            end_of_sequence=ended,
            logprobs=(event.logprob,) if event.logprob is not None else (),
            ranks=(event.rank,) if event.rank is not None else (),
            top_logprobs=(event.top,) if event.top else (),
            in_block=in_block,
        )
        core.out.add(Phase.TOKENS, report)
        for item in items:
            for parsed in reader.parser.feed(item):
                self._apply(parsed)
        if in_block is not None and reader.at_block_limit:
            self._limit_block()
        self._follow_text()
        if reader.stop_string is not None:
            self._stop(reader.stop_string)
        if ended and not core.finished:
            self._waits.end(END_OF_SEQUENCE, last=self._spent)
        if self._spent and core.cell.state in STEPPING:
            self._spend_last()

    def _stop(self, stop: str) -> None:
        """A stop string ends decoding as the length limit does, pending calls or not [SES-103]."""
        if self._keep:
            self._waits.end(STOP_STRING, stop_string=stop)
        else:
            self._ending.finish(
                FinishReason.STOP_STRING, f"the stop string {stop[:80]!r} was written", stop_string=stop
            )

    @property
    def _spent(self) -> bool:
        """Whether `max_new_tokens` is reached; under KEEP it counts from the last wake [SES-077]."""
        since = self._waits.woken_at if self._keep else 0
        return self._core.sampled - since >= self._max_new_tokens

    def _spend_last(self) -> None:
        if self._keep and self._reader.open_block is None:
            self._give_up()
            self._waits.end(LENGTH)
        else:
            limit = self._max_new_tokens
            self._ending.finish(FinishReason.LENGTH, f"max_new_tokens is {limit}")

    def ended(self, event: StreamEnded) -> None:
        """The stream ended without a token for it."""
        if event.reason is not None:
            self._ending.finish(event.reason)
            return
        self._give_up()
        for parsed in self._reader.parser.feed(EOS):
            self._apply(parsed)
        self._waits.end(END_OF_SEQUENCE)

    def _give_up(self) -> None:
        self._reader.give_up(self._core)
        self._follow_text()

    def _follow_text(self) -> None:
        """Keeps the state in step with what the decoder holds back."""
        core = self._core
        state = core.cell.state
        if state is State.DECODING:
            if self._reader.unfinished:
                core.cell.move(Trigger.SEQUENCE_HELD)
        elif state is State.IN_TEXT_SEQUENCE and self._reader.open_block is None and not self._reader.unfinished:
            core.cell.move(Trigger.SEQUENCE_WHOLE)

    # --- blocks ----------------------------------------------------------------------------------------------

    def _apply(self, parsed: ParseEvent) -> None:
        if isinstance(parsed, TextRead):
            self._hold.text(parsed.text)
            self._replays.said(parsed.text)
        elif isinstance(parsed, BlockOpened):
            self._open(parsed.control)
        elif isinstance(parsed, BlockClosed):
            self._close(parsed.block)
        elif isinstance(parsed, Dropped):
            self._core.notice(NoticeCode.STRAY, f"{parsed.control.value} outside a block was dropped")

    def _open(self, control: Control) -> None:
        cell = self._core.cell
        if cell.state is State.IN_TEXT_SEQUENCE:
            cell.move(Trigger.SEQUENCE_WHOLE)
        cell.move(_OPENED[control])
        self._reader.opened()
        if control is Control.INTR:
            self._core.notice(NoticeCode.FORGED, "an [INTR] block written by the model was dropped")
            if self._core.config.unit is Unit.PIECE:
                # A hosted stream is closed here and starts anew without the block [CML-064].
                self._abandon()
                payload = error_payload(ErrorType.FORGED, "[INTR] blocks are written by the runtime, never by you")
                self._core.accept("@runtime", Status.ERROR, payload)
                self._hold.request_closed()

    def _abandon(self) -> None:
        for parsed in self._reader.abandon_block():
            self._apply(parsed)

    def _limit_block(self) -> None:
        if self._reader.block_tokens > self._reader.block_limit:
            return
        limit = self._reader.block_limit
        self._core.notice(NoticeCode.BLOCK_LIMIT, f"a block of {limit} tokens: only [END] may follow")
        if self._core.config.unit is Unit.PIECE:
            # A hosted model cannot be masked: its request is stopped and the block judged malformed [SES-079].
            self._abandon()
            self._hold.request_closed()

    def _close(self, block: ParsedBlock) -> None:
        self._hold.boundary()
        state = self._core.cell.state
        if state is State.IN_TEXT_SEQUENCE:
            return  # a forged interrupt, told when it began
        if isinstance(block, Malformed):
            self._core.notice(NoticeCode.MALFORMED_BLOCK, f"{block.opened.value} block: {block.message}")
        trap = self._close_call(block) if isinstance(block, Call | Malformed) and state is State.IN_CALL else None
        if isinstance(block, Malformed) and state is State.IN_TRAP:
            payload = error_payload(ErrorType.TRAP, block.message, retryable=True)
            self._core.accept("@runtime", Status.ERROR, payload)
        if isinstance(block, Trap):
            trap = block
        if trap is None or self._spent:
            self._core.cell.move(Trigger.BLOCK_CLOSED)
        else:
            self._waits.enter(trap, implicit=state is State.IN_CALL)

    def _close_call(self, block: Call | Malformed) -> Trap | None:
        """Hands a call over; gives the trap that SYNC puts behind its `[END]` [SES-060, SES-066]."""
        if self._replays.dropped(block):
            return None
        call = self._desk.emit(block)
        if call.builtin and not call.resolved:
            self._cancelling.run_builtin(call)
        ended = not (isinstance(block, Malformed) and block.code in _WITHOUT_END)
        if self._core.config.mode is ExecutionMode.SYNC and call.id is not None and ended:
            return Trap(Quantifier.ALL, (call.id,))
        return None
