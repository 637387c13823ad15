"""Tokens of a stream: whose ids they are, which block they stand in, what they cost."""

from __future__ import annotations

from tests.server.ambient_books import Calls
from tests.server.ambient_report import Facts, Violations

from asynclm.cml.control import OPENING, Control
from asynclm.session import effects as fx
from asynclm.session.config import Constraints, OnEnd
from asynclm.session.events import CreditGranted
from asynclm.session.state import State


class TokenStream:
    """Follows sampled and injected ids.

    Attributes:
        block: the opening token of the open block, or None.
        count, injected_count: ids so far, sampled and injected.
    """

    def __init__(self, facts: Facts, found: Violations, calls: Calls) -> None:
        self._facts = facts
        self._require = found.require
        self._calls = calls
        binding = facts.started.binding
        self._controls = {token.id: token.control for token in binding.tokens if token.id is not None}
        self._ends = frozenset(binding.eos_ids)
        self._bytes = binding.name == "bytes"
        self._whole = True
        self._behind = 0
        self._head = False
        self._inside = 0
        self.block: Control | None = None
        self.count = 0
        self.injected_count = 0

    @property
    def state(self) -> State:
        """The state of a session that does not wait, short of unfinished text sequences."""
        return {Control.CALL: State.IN_CALL, Control.TRAP: State.IN_TRAP}.get(self.block, State.DECODING)

    @property
    def at_safe_point(self) -> bool:
        """Whether the next step certainly has a safe point before it [SES-020]."""
        return self.block is None and self._whole

    def spent(self, since: int) -> bool:
        """Whether `max_new_tokens` is reached [SES-076, SES-077]."""
        start = since if self._facts.started.on_end is OnEnd.KEEP else 0
        return self.count - start >= self._facts.started.limits.max_new_tokens

    def injected(self, report: fx.InterruptCommitted) -> None:
        """A frame is `[INTR] source [HEAD] payload [END]`, and no text of it is special [CML-054]."""
        self.injected_count += len(report.ids)
        self._whole = True
        self._behind = 0
        if self._controls and report.ids:
            controls = [self._controls.get(i) for i in report.ids if i in self._controls or i in self._ends]
            framed = controls == [Control.INTR, Control.HEAD, Control.END]
            framed = framed and self._controls.get(report.ids[0]) is Control.INTR
            framed = framed and self._controls.get(report.ids[-1]) is Control.END
            self._require(framed, "CML-054", f"the frame's control tokens are {controls}")

    def sampled(self, report: fx.Tokens) -> Control | None:
        """Takes one event; gives the opening token of the block that it closes, if any."""
        self._kinds(report)
        self._require(report.in_block is self.block, "WIRE-055", f"in_block {report.in_block}, not {self.block}")
        self._scores(report)
        self.count += len(report.ids)
        self._credit()
        last = report.control is not None or report.end_of_sequence
        self._length(report)
        self._behind = 0 if last else self._behind + len(report.ids) - len(report.text.encode())
        ascii_only = report.text.isascii() and len(report.text) == len(report.ids)
        self._whole = last or (self._bytes and ascii_only and (not self._facts.start.stop or self._behind == 0))
        return self._follow(report)

    def _scores(self, report: fx.Tokens) -> None:
        """As many as were asked for, in order [WIRE-062, WIRE-063]."""
        asked, require = self._facts.start.sampling, self._require
        scored = len(report.ids) if asked.logprobs else 0
        require(len(report.logprobs) == scored, "WIRE-062", f"{len(report.logprobs)} logprobs")
        require(len(report.ranks) == scored, "WIRE-062", f"{len(report.ranks)} ranks")
        tops = scored if asked.top_logprobs else 0
        require(len(report.top_logprobs) == tops, "WIRE-063", f"{len(report.top_logprobs)} top_logprobs")
        require(all(p <= 1e-6 for p in report.logprobs) and all(report.ranks), "WIRE-062", "no probability, or no rank")
        for token_id, rank, top in zip(report.ids, report.ranks, report.top_logprobs, strict=False):
            given = [token.logprob for token in top]
            require(given == sorted(given, reverse=True), "WIRE-063", f"not in descending order: {given}")
            require(0 < len(given) <= asked.top_logprobs, "WIRE-063", f"{len(given)} of {asked.top_logprobs}")
            listed = token_id in [token.token_id for token in top]
            require(listed or rank > 1, "WIRE-063", f"{token_id} has rank {rank} and is not among {top}")

    def _kinds(self, report: fx.Tokens) -> None:
        if not self._controls:
            return
        require, ids = self._require, report.ids
        stray = [i for i in ids[:-1] if i in self._controls or i in self._ends]
        require(not stray, "WIRE-055", f"the event does not end at its control token {stray}")
        control = self._controls.get(ids[-1]) if ids else None
        require(control is report.control, "WIRE-055", f"control {report.control}, but the last id is {control}")
        ends = bool(ids) and ids[-1] in self._ends
        require(ends is report.end_of_sequence, "WIRE-055", f"end_of_sequence is {report.end_of_sequence}")
        require(control is not Control.INTR, "SES-010", "[INTR] was sampled")
        if report.control is not None or report.end_of_sequence:
            self._masked(report)

    def _masked(self, report: fx.Tokens) -> None:
        """Where control tokens and end of sequence may stand under the constraints in force [SES-012 to SES-015]."""
        constraints, control, block = self._facts.started.constraints, report.control, self.block
        if constraints is Constraints.NONE:
            return
        require = self._require
        if control in OPENING or report.end_of_sequence:
            require(block is None, "SES-012", f"{control or 'end of sequence'} inside a {block} block")
        if control is Control.END:
            require(block is not None, "SES-012", "[END] outside a block")
        if control is Control.HEAD:
            require(block is Control.CALL and not self._head, "SES-012", "[HEAD] where there can be none")
        if constraints is Constraints.STATIC:
            return
        pending = [call.id for call in self._calls.pending]
        if control is Control.TRAP:
            require(pending, "SES-014", "[TRAP] with nothing pending")
        if report.end_of_sequence and self._facts.start.gate_end:
            require(not pending, "SES-015", f"end of sequence with {pending} pending")

    def _credit(self) -> None:
        """No more is sampled than was granted [WIRE-070]."""
        credit, sent = self._facts.started.credit, self._facts.sent
        if credit is not None and sent is not None:
            granted = credit + sum(event.tokens for event in sent.values() if isinstance(event, CreditGranted))
            self._require(self.count <= granted, "WIRE-070", f"{self.count} tokens sampled on a credit of {granted}")

    def _length(self, report: fx.Tokens) -> None:
        """A block is no longer than `max_block_tokens` and its `[END]` [SES-078]."""
        if self.block is None:
            return
        self._inside += len(report.ids)
        limit = self._facts.started.limits.max_block_tokens + (report.control is Control.END)
        self._require(self._inside <= limit, "SES-078", f"{self._inside} tokens in one block")

    def _follow(self, report: fx.Tokens) -> Control | None:
        before = self.block
        if report.control in OPENING:
            self.block, self._head, self._inside = report.control, False, 0
        elif report.control is Control.END or report.end_of_sequence:
            self.block = None
        elif report.control is Control.HEAD:
            self._head = True
        closed = report.control is Control.END or report.control in OPENING or report.end_of_sequence
        return before if closed else None
