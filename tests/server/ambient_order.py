"""The order of the effects of one input [WIRE-053], as far as a stream shows where an input begins.

A stream does not mark its inputs. But only some events can be the first effect of one, and some need another before
them in the same input; what breaks either rule cannot be cut into inputs at all.
"""

from __future__ import annotations

from tests.server.ambient_report import Violations

from asynclm.session import effects as fx
from asynclm.session.state import Delivery, State
from asynclm.wire.values import ReceivedEvent, Started

_PLACES: dict[type, int] = {
    fx.InterruptAccepted: 1,
    fx.InterruptRejected: 1,
    fx.InterruptCommitted: 3,
    fx.Tokens: 4,
    fx.Notice: 4,
    fx.CallEmitted: 5,
    fx.CallDispatched: 6,
    fx.CallCancelRequested: 7,
    fx.CancelAnswered: 7,
    fx.TrapEntered: 8,
    fx.Probed: 11,
    fx.Finished: 12,
}
_SETTLED = {Delivery.DELIVERED: 3, Delivery.NOT_AWAITED: 6, Delivery.UNDELIVERED: 10}

_CAUSES: dict[type, tuple[type, ...]] = {
    fx.CallEmitted: (fx.Tokens,),
    fx.CallDispatched: (fx.Tokens, fx.InterruptAccepted),
    fx.TrapEntered: (fx.Tokens,),
    fx.TrapExited: (fx.TrapEntered, fx.InterruptAccepted),
    fx.StateChanged: (fx.Tokens, fx.InterruptAccepted),
}
"""What has to stand before an event in the same input; one of them is enough."""


class Order:
    """Follows the places of events and cuts the stream into inputs where they fall."""

    def __init__(self, found: Violations) -> None:
        self._found = found
        self._run: list[object] = []
        self._place = 0
        self._waiting = False

    def see(self, event: ReceivedEvent) -> None:
        report = event.report
        if isinstance(report, Started):
            return
        place = self._place_of(report)
        if place < self._place or isinstance(report, fx.Tokens | fx.InterruptCommitted | fx.InterruptRejected):
            self._begin(report)
        causes = _CAUSES.get(type(report))
        if causes is not None:
            names = " or ".join(cause.__name__ for cause in causes)
            self._found.require(
                any(isinstance(effect, causes) for effect in self._run),
                "WIRE-053",
                f"{type(report).__name__} without {names} before it in the same input",
            )
        if isinstance(report, fx.CallSettled) and report.row.delivery is Delivery.DELIVERED:
            last = self._run[-1] if self._run else None
            follows = isinstance(last, fx.InterruptCommitted) and last.source == report.row.id
            self._found.require(follows, "WIRE-053", "CallSettled does not follow its InterruptCommitted")
        if self._place == 10 and place < 10:
            self._found.require(False, "WIRE-053", f"{type(report).__name__} after a call settled for the end")
        self._place = place
        self._run.append(report)
        self._follow(report)

    def _begin(self, report: object) -> None:
        """A new input begins here, except where accepted interrupts lead up to the event."""
        leads = (fx.InterruptAccepted,)
        if not (isinstance(report, fx.Tokens) and self._run and isinstance(self._run[-1], leads)):
            self._run = []

    def _place_of(self, report: object) -> int:
        if isinstance(report, fx.CallSettled):
            return _SETTLED[report.row.delivery]
        if isinstance(report, fx.TrapExited):
            return 9 if self._run and isinstance(self._run[-1], fx.TrapEntered) else 2
        if isinstance(report, fx.StateChanged):
            return 2 if report.state is State.DECODING and self._waiting else 8
        return _PLACES.get(type(report), 4)

    def _follow(self, report: object) -> None:
        if isinstance(report, fx.TrapEntered):
            self._waiting = True
        elif isinstance(report, fx.TrapExited):
            self._waiting = False
        elif isinstance(report, fx.StateChanged):
            self._waiting = report.state is not State.DECODING
