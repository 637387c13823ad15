"""Tokens of a stream: whose ids they are, which block they stand in, what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.ambient.books import Calls
from asynclm_conformance.ambient.report import Event, Facts, Violations, frame_parts, member
from asynclm_conformance.ambient.scores import scores

CALL = types_pb2.CONTROL_TOKEN_CALL
INTR = types_pb2.CONTROL_TOKEN_INTR
TRAP = types_pb2.CONTROL_TOKEN_TRAP
END = types_pb2.CONTROL_TOKEN_END
HEAD = types_pb2.CONTROL_TOKEN_HEAD
_OPENING = frozenset({CALL, INTR, TRAP})
_STATES: dict[int, int] = {CALL: types_pb2.STATE_IN_CALL, TRAP: types_pb2.STATE_IN_TRAP}
_CUT = frozenset({types_pb2.NOTICE_CODE_FORGED, types_pb2.NOTICE_CODE_BLOCK_LIMIT})
"""Where a hosted stream, which cannot be masked, is stopped inside a block [CML-064, SES-079]."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A block that closed.

    Attributes:
        opened: the control token that opened it.
        text: what stands after its last `[HEAD]`, or all of it.
        heads: how many `[HEAD]` it has.
        ended: whether `[END]` closed it.
    """

    opened: int
    text: str
    heads: int
    ended: bool


class TokenStream:
    """Follows sampled and injected ids.

    Attributes:
        block: the opening token of the open block, or 0.
        count, injected_count: stream tokens so far, sampled and injected.
    """

    def __init__(self, facts: Facts, found: Violations, calls: Calls) -> None:
        self._facts = facts
        self._require = found.require
        self._calls = calls
        binding = facts.started.binding
        bound = {} if facts.pieces else {token.id: token.control for token in binding.tokens if token.HasField("id")}
        self._controls: dict[int, int] = dict(bound)
        self._ends = frozenset(binding.eos_ids)
        self._whole = True
        self._behind = 0
        self._heads = 0
        self._inside = 0
        self._text = ""
        self.block = 0
        self.count = 0
        self.injected_count = 0

    @property
    def state(self) -> int:
        """The state of a session that does not wait, short of unfinished text sequences."""
        return _STATES.get(self.block, types_pb2.STATE_DECODING)

    @property
    def at_safe_point(self) -> bool:
        """Whether the next step certainly has a safe point before it [SES-020]."""
        return not self.block and self._whole

    @property
    def _most(self) -> int:
        return self._facts.limit("max_new_tokens")

    def _since(self, woken_at: int) -> int:
        return self.count - (woken_at if self._facts.started.on_end == types_pb2.ON_END_KEEP else 0)

    def spent(self, woken_at: int) -> bool:
        """Whether `max_new_tokens` is reached [SES-076, SES-077]."""
        return self._since(woken_at) >= self._most

    def overspent(self, woken_at: int) -> bool:
        """Whether more than `max_new_tokens` were sampled."""
        return self._since(woken_at) > self._most

    def injected(self, event: Event) -> None:
        """A frame is `[INTR] source [HEAD] payload [END]`, and no text of it is special [CML-054]."""
        self.injected_count += event.units
        self._whole = True
        self._behind = 0
        ids = event.body.ids
        if self._facts.pieces:
            self._require(not ids, "WIRE-074", f"{len(ids)} ids in PIECE units")
            return
        self._require(ids, "INT-043", "InterruptCommitted without its ids")
        if self._controls and ids:
            controls = [self._controls.get(i, 0) for i in ids if i in self._controls or i in self._ends]
            framed = controls == [INTR, HEAD, END] and (ids[0], ids[-1]) == (self._id_of(INTR), self._id_of(END))
            names = [member(types_pb2.ControlToken, control) for control in controls]
            self._require(framed, "CML-054", f"the frame's control tokens are {names}")
            if framed and self._facts.bytes:
                self._says(event.body)

    def _says(self, body: session_pb2.InterruptCommitted) -> None:
        """Where ids are bytes, a frame is read: its source, a status that is not ok, and its payload, nothing added."""
        head = list(body.ids).index(self._id_of(HEAD) or 0)
        parts = (body.ids[1:head], body.ids[head + 1 : -1])
        said = tuple(bytes(part).decode("utf-8", "replace") for part in parts if max(part, default=0) < 256)
        wanted = frame_parts(body)
        self._require(said == wanted, "CML-054", f"the frame says {said}, not {wanted}")

    def _id_of(self, control: int) -> int | None:
        return next((token_id for token_id, bound in self._controls.items() if bound == control), None)

    def sampled(self, event: Event) -> Closed | None:
        """Takes one event; gives the block that it closes, if any."""
        body: session_pb2.Tokens = event.body
        self._kinds(body)
        here, told = (member(types_pb2.ControlToken, block) for block in (self.block, body.in_block))
        self._require(body.in_block == self.block, "WIRE-055", f"in_block is {told}, not {here}")
        scores(body, self._facts.start.sampling, self._require)
        self.count += event.units
        self._credit()
        last = bool(body.control or body.end_of_sequence)
        self._length(event)
        self._behind = 0 if last else self._behind + event.units - len(body.text.encode())
        ascii_only = self._facts.bytes and body.text.isascii() and len(body.text) == event.units
        self._whole = last or (ascii_only and (not self._facts.start.stop or self._behind == 0))
        return self._follow(body)

    def noticed(self, body: session_pb2.Notice) -> Closed | None:
        """Takes a notice; gives the block that a hosted stream leaves there, if any."""
        if not self._facts.pieces or body.code not in _CUT or not self.block:
            return None
        return self._close(ended=False)

    def left(self) -> Closed | None:
        """Gives the open block that the end of a hosted stream leaves, for which there is no token."""
        return self._close(ended=False) if self._facts.pieces and self.block else None

    def _kinds(self, body: session_pb2.Tokens) -> None:
        require, ids = self._require, body.ids
        for name, control in (("control", body.control), ("in_block", body.in_block)):
            known = control in types_pb2.ControlToken.values()
            require(known, "WIRE-055", f"{name} is {control}, which is no control token")
        if self._facts.pieces:
            require(not ids, "WIRE-074", f"{len(ids)} ids in PIECE units")
        if not self._controls:
            return
        stray = [i for i in ids[:-1] if i in self._controls or i in self._ends]
        require(not stray, "WIRE-055", f"the event does not end at its control token {stray}")
        sampled = self._controls.get(ids[-1], 0) if ids else 0
        told, last = (member(types_pb2.ControlToken, number) for number in (body.control, sampled))
        require(sampled == body.control, "WIRE-055", f"control is {told}, but the last id is {last}")
        ends = bool(ids) and ids[-1] in self._ends
        require(ends is body.end_of_sequence, "WIRE-055", f"end_of_sequence is {body.end_of_sequence}")
        require(sampled != INTR, "SES-010", "[INTR] was sampled")
        if body.control or body.end_of_sequence:
            self._masked(body)

    def _masked(self, body: session_pb2.Tokens) -> None:
        """Where control tokens and end of sequence may stand under the constraints in force [SES-012 to SES-015]."""
        constraints, control, block = self._facts.started.constraints, body.control, self.block
        if constraints < types_pb2.CONSTRAINTS_STATIC:
            return
        require = self._require
        what = member(types_pb2.ControlToken, control) if control else "end of sequence"
        if control in _OPENING or body.end_of_sequence:
            require(not block, "SES-012", f"{what} inside a block")
        if control == END:
            require(block, "SES-012", "[END] outside a block")
        if control == HEAD:
            require(block == CALL and not self._heads, "SES-012", "[HEAD] where there can be none")
        if constraints < types_pb2.CONSTRAINTS_GATES:
            return
        pending = [call.id for call in self._calls.pending]
        if control == TRAP:
            require(pending, "SES-014", "[TRAP] with nothing pending")
        if body.end_of_sequence and self._facts.start.gate_end:
            require(not pending, "SES-015", f"end of sequence with {pending} pending")

    def _credit(self) -> None:
        """No more is sampled than was granted [WIRE-070]."""
        credit = self._facts.credit
        if credit is not None and self._facts.sent is not None:
            granted = credit + sum(grant.tokens for _, grant in self._facts.asked("grant"))
            self._require(self.count <= granted, "WIRE-070", f"{self.count} tokens sampled on a credit of {granted}")

    def _length(self, event: Event) -> None:
        """A block is no longer than `max_block_tokens` and its `[END]` [SES-078]."""
        if not self.block:
            return
        self._inside += event.units
        limit = self._facts.limit("max_block_tokens") + (event.body.control == END)
        self._require(self._inside <= limit, "SES-078", f"{self._inside} tokens in one block")

    def _follow(self, body: session_pb2.Tokens) -> Closed | None:
        closed = None
        control = body.control
        if self.block:
            self._text += body.text
        if control == HEAD:
            self._heads += 1
            self._text = ""
        if self.block and (control in _OPENING or control == END or body.end_of_sequence):
            closed = self._close(ended=control == END)
        if control in _OPENING:
            self.block, self._heads, self._inside, self._text = int(control), 0, 0, ""
        return closed

    def _close(self, *, ended: bool) -> Closed:
        closed = Closed(self.block, self._text, self._heads, ended)
        self.block = 0
        return closed
