"""Calls that a hosted model says again in a request that was begun anew [CALL-110 to CALL-113]."""

from __future__ import annotations

from dataclasses import dataclass

from asynclm.cml.blocks import Call, Invocation, Malformed
from asynclm.session.core import Core
from asynclm.session.state import NoticeCode


@dataclass(frozen=True, slots=True)
class Written:
    """A call block as it was written, and the request in which it was.

    Attributes:
        request: requests that had been begun anew by then.
        body: its body.
        invocation: the body as parsed, or None if it is malformed.
    """

    request: int
    body: str
    invocation: Invocation | None

    def same(self, other: Written) -> bool:
        """Whether both have the same body [CALL-112]."""
        if self.body == other.body:
            return True
        return self.invocation is not None and self.invocation == other.invocation


class Replays:
    """Tells calls that are said again from new ones.

    Anonymous calls have no name by which they could be told: one is said again only where what stands before it in the
    new request was all said again, and is not nothing.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._request = 0
        self._named: dict[str, Written] = {}
        self._anonymous: list[Written] = []
        self._nothing_new = False
        self._led = False

    def restarted(self) -> None:
        """A request was begun anew: what comes can be what was said before."""
        self._request += 1
        self._nothing_new, self._led = True, False

    def trimmed(self, text: str) -> None:
        """Text was taken for said again, and left out."""
        self._core.notice(NoticeCode.REPLAY, f"{len(text)} characters that the model said again were left out")
        self._led = self._nothing_new

    def said(self, text: str) -> None:
        """Text outside blocks was sampled."""
        if self._nothing_new and text.strip():
            self._new()

    def _new(self) -> None:
        self._nothing_new = self._led = False

    def dropped(self, block: Call | Malformed) -> bool:
        """Whether a call block is one that is said again; tells so, or keeps it for later."""
        if isinstance(block, Call):
            written = Written(self._request, block.raw, block.invocation)
        else:
            written = Written(self._request, block.body, None)
        if block.id is not None:
            first = self._named.get(block.id)
            if first is not None and first.request < self._request and first.same(written):
                self._led = self._nothing_new
                self._core.notice(NoticeCode.REPLAY, f"call {block.id!r} was said again, and left out")
                return True
            self._new()
            self._named.setdefault(block.id, written)
            return False
        earlier = [call for call in self._anonymous if call.request < self._request and call.same(written)]
        if self._led and earlier:
            self._anonymous.remove(earlier[0])
            self._core.notice(NoticeCode.REPLAY, "an anonymous call was said again, and left out")
            return True
        self._new()
        self._anonymous.append(written)
        return False
