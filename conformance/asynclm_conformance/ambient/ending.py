"""The end of a stream: usage, ledger, and whether the reason is one that the rules give."""

from __future__ import annotations

from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.ambient.answers import Answers
from asynclm_conformance.ambient.books import Calls, Queue
from asynclm_conformance.ambient.calls import CallLife
from asynclm_conformance.ambient.interrupts import Interrupts
from asynclm_conformance.ambient.report import Event, Facts, Violations
from asynclm_conformance.ambient.tokens import TokenStream
from asynclm_conformance.ambient.waits import Waits


class Ending:
    """Looks at `Finished`."""

    def __init__(
        self,
        facts: Facts,
        found: Violations,
        calls: Calls,
        queue: Queue,
        tokens: TokenStream,
        waits: Waits,
        answers: Answers,
        life: CallLife,
        interrupts: Interrupts,
    ) -> None:
        self._facts = facts
        self._require = found.require
        self._calls = calls
        self._queue = queue
        self._tokens = tokens
        self._waits = waits
        self._answers = answers
        self._life = life
        self._interrupts = interrupts

    def finished(self, event: Event) -> None:
        """Takes the last event."""
        body: session_pb2.Finished = event.body
        require, usage = self._require, body.usage
        require(usage.sampled_tokens == self._tokens.count, "SES-095", f"sampled {usage.sampled_tokens}")
        require(usage.injected_tokens == self._tokens.injected_count, "INT-046", f"injected {usage.injected_tokens}")
        require(usage.prompt_tokens == self._facts.started.prompt_tokens, "SES-095", "prompt_tokens differs")
        cached = 0 <= usage.cached_tokens <= usage.prompt_tokens
        require(cached, "SES-095", f"cached {usage.cached_tokens} of {usage.prompt_tokens}")
        self._answers.finished(body.reason)
        self._bill(body)
        early = list(self._calls.early)
        require(not early, "INT-022", f"accepted results of {early}, which no call registered")
        self._life.ledger(list(body.calls))
        self._interrupts.ledger(list(body.interrupts))
        self._reason(body.reason)

    def _bill(self, body: session_pb2.Finished) -> None:
        """What a hosted interface charged for."""
        emulated, told, hosted = self._facts.started.emulated, body.HasField("hosted"), body.hosted
        self._require(told == emulated, "SES-116", f"hosted is {'given' if told else 'absent'}; emulated is {emulated}")
        parts = (
            (hosted.cached_tokens, hosted.prompt_tokens),
            (hosted.discarded_tokens, hosted.completion_tokens),
            (hosted.estimated_requests, hosted.requests),
            (len(hosted.first_token_ms), hosted.requests),
        )
        self._require(all(0 <= part <= whole for part, whole in parts), "SES-116", f"a part exceeds its whole: {parts}")
        silent = told and self._tokens.count > 0 and not hosted.requests
        self._require(not silent, "SES-116", "something was sampled, and no request sent")

    def _reason(self, reason: int) -> None:
        require, on_end = self._require, self._facts.started.on_end
        if reason == types_pb2.FINISH_REASON_LENGTH:
            require(self._tokens.spent(self._waits.woken_at), "SES-076", "LENGTH before max_new_tokens")
        if reason == types_pb2.FINISH_REASON_STALLED:
            stalled = self._waits.empty_traps == self._facts.limit("max_empty_traps")
            require(stalled, "TRAP-044", f"STALLED after {self._waits.empty_traps} traps that could not end")
        if reason == types_pb2.FINISH_REASON_STOP and on_end == types_pb2.ON_END_WAIT:
            left = self._calls.unresolved
            require(not left, "SES-042", f"stopped with {left} unresolved")
            wakes = [number for number, queued in self._queue.waiting.items() if queued.wakes]
            require(not wakes, "SES-041", f"stopped with interrupts {wakes} in the queue")
