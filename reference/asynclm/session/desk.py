"""The life of calls: emitted, checked, held, dispatched, resolved (spec: calls)."""

from __future__ import annotations

from asynclm.cml.blocks import Call, CmlError, Invocation, Malformed, Reference
from asynclm.cml.bodies import bind_positional
from asynclm.cml.control import Status
from asynclm.session import arguments, references
from asynclm.session.calls import CallRecord
from asynclm.session.config import ExecutionMode
from asynclm.session.core import Core
from asynclm.session.effects import CallCancelRequested, CallDispatched, CallEmitted, CallSettled
from asynclm.session.hold import Hold
from asynclm.session.outbox import Phase
from asynclm.session.payloads import error_payload
from asynclm.session.state import CancelOrigin, Delivery, ErrorType, Scheduling
from asynclm.session.timers import TimerKind

CANCEL = "cml.cancel"
"""The built-in function by which the model takes a call back [CALL-078]."""

_BUILTIN_ORDER = {CANCEL: ("id",)}

Fault = tuple[ErrorType, str]
"""Why a call is not run: the class and one sentence for the model."""

_RETRYABLE = frozenset(
    {
        ErrorType.SYNTAX,
        ErrorType.INVALID_ARGUMENTS,
        ErrorType.LIMIT,
        ErrorType.DUPLICATE_ID,
        ErrorType.INVALID_ID,
    }
)
"""Faults that the same call, put right or made later, may not meet again [INT-018]."""


_NOBODY_ANSWERS = "the client will send nothing more"


class CallDesk:
    """Owns the calls: whatever happens to one happens here."""

    def __init__(self, core: Core, hold: Hold) -> None:
        self._core = core
        self._hold = hold
        self._tools = {tool.name: tool for tool in core.config.tools}

    def emit(self, block: Call | Malformed) -> CallRecord:
        """A call block closed: registers it, checks it, and dispatches it if nothing stands in the way.

        A built-in call is only checked; running it is the caller's part.
        """
        core = self._core
        taken = block.id is not None and core.calls.by_id(block.id) is not None
        invocation = block.invocation if isinstance(block, Call) else None
        call = core.calls.register(None if taken else block.id, invocation, core.now_ms)
        call.builtin = call.function in _BUILTIN_ORDER
        call.tool = self._tools.get(call.function)
        call.client_owned = call.function in core.config.client_tools
        call.released = core.config.mode is not ExecutionMode.SYNC_PARALLEL
        report = CallEmitted(
            token_index=core.token_index,
            index=call.index,
            id=call.id,
            function=call.function,
            raw=block.raw if isinstance(block, Call) else block.body,
            references=invocation.references if invocation else (),
        )
        core.out.add(Phase.EMITTED, report)
        fault = (ErrorType.DUPLICATE_ID, f"id {block.id!r} is taken; choose a new one") if taken else None
        fault = fault or self._fault(call, block)
        if fault is not None:
            self.fail(call, *fault, claimed=block.id)
        elif core.half_closed and call.client_owned:
            self.withdraw(call, _NOBODY_ANSWERS)
        elif not call.builtin:
            self._advance(call)
        return call

    # --- checks, in the order of [CALL-020] ------------------------------------------------------------------

    def _fault(self, call: CallRecord, block: Call | Malformed) -> Fault | None:
        if isinstance(block, Malformed):
            if block.bad_id:
                return ErrorType.INVALID_ID, block.message
            return ErrorType.SYNTAX, block.message
        if call.tool is None and not call.builtin:
            return ErrorType.UNKNOWN_FUNCTION, self._unknown(call.function)
        order = call.tool.parameter_order if call.tool else _BUILTIN_ORDER[call.function]
        try:
            invocation = call.invocation = bind_positional(block.invocation, order)
        except CmlError as error:
            return ErrorType.SYNTAX, str(error)
        if call.builtin:
            return None
        return self._over_limit(call, invocation) or self._bad_reference(call, invocation) or self._misfit(call)

    def _unknown(self, function: str) -> str:
        names = ", ".join([*self._tools, CANCEL][:20])
        return f"function {function[:80]!r} is not declared; declared are {names}"

    def _over_limit(self, call: CallRecord, invocation: Invocation) -> Fault | None:
        limits = self._core.config.limits
        if call.id is not None and len(self._core.calls.pending) > limits.max_pending_calls:
            message = f"{limits.max_pending_calls} calls are pending, which is the limit; wait for one of them"
            return ErrorType.LIMIT, message
        if arguments.literal_bytes(invocation) > limits.max_argument_bytes:
            message = f"arguments of {call.function}: more than {limits.max_argument_bytes} bytes"
            return ErrorType.LIMIT, message
        return None

    def _bad_reference(self, call: CallRecord, invocation: Invocation) -> Fault | None:
        for reference in invocation.references:
            source = self._core.calls.by_id(reference.id)
            if source is None or source is call:
                return ErrorType.DEPENDENCY, f"reference {reference.id!r}: no earlier call has this id"
        return None

    def _misfit(self, call: CallRecord) -> Fault | None:
        assert call.invocation is not None
        assert call.tool is not None
        if call.invocation.references:
            return None
        violation = self._unfit(call, arguments.to_json(call.invocation, {}))
        return (ErrorType.INVALID_ARGUMENTS, violation) if violation else None

    def _unfit(self, call: CallRecord, final: str) -> str | None:
        """What is wrong with final arguments: they break the schema, or are no copies where they have to be."""
        assert call.invocation is not None
        assert call.tool is not None
        violation = arguments.violation(call.tool, final)
        if violation is not None:
            return violation
        carried = [
            argument.name or ""
            for argument in call.invocation.arguments
            if isinstance(argument.value, Reference) and not self._of_builtin(argument.value)
        ]
        return self._core.copying.violation(call.tool, final, carried)

    def _of_builtin(self, reference: Reference) -> bool:
        source = self._core.calls.by_id(reference.id)
        return source is not None and source.builtin

    # --- held calls ------------------------------------------------------------------------------------------

    def release(self, *, named: bool = True) -> None:
        """Lets held calls go (SYNC_PARALLEL, at a trap or end of sequence [SES-062])."""
        for call in self._core.calls.held:
            if named or call.id is None:
                call.released = True
        self.pump()

    def pump(self) -> None:
        """Looks at held calls again after something resolved, in emission order.

        One pass is enough: a call refers to earlier ones only [CALL-030].
        """
        for call in self._core.calls.held:
            self._advance(call)

    def _advance(self, call: CallRecord) -> None:
        """Fails or dispatches a held call, or leaves it held."""
        assert call.invocation is not None
        assert call.tool is not None
        waits = False
        for reference in call.invocation.references:
            source = self._core.calls.by_id(reference.id)
            assert source is not None
            if not source.resolved:
                waits = True
            elif reference not in call.values:
                fault = self._substitute(call, reference, source)
                if fault is not None:
                    self.fail(call, ErrorType.DEPENDENCY, fault)
                    return
        if waits:
            return
        if call.final is None:
            final = arguments.to_json(call.invocation, call.values)
            misfit = self._unfit_filled_in(call, final) if call.values else None
            if misfit is not None:
                self.fail(call, *misfit)
                return
            call.final = final
        if call.released:
            self._dispatch(call, call.final)

    def _unfit_filled_in(self, call: CallRecord, final: str) -> Fault | None:
        """What is wrong with arguments whose references are filled in, held or not [CALL-039]."""
        limit = self._core.config.limits.max_argument_bytes
        if len(final.encode()) > limit:
            return ErrorType.DEPENDENCY, f"arguments with references filled in: more than {limit} bytes"
        violation = self._unfit(call, final)
        return (ErrorType.INVALID_ARGUMENTS, violation) if violation is not None else None

    def _substitute(self, call: CallRecord, reference: Reference, source: CallRecord) -> str | None:
        """Fills one reference in; returns why it cannot be."""
        spelled = references.spell(reference)
        assert source.status is not None
        if source.status is not Status.OK:
            return f"reference {spelled}: call {reference.id!r} ended with {source.status.value}"
        try:
            value = references.select(source.payload, reference.path)
        except LookupError as error:
            return f"reference {spelled}: {error.args[0]} in the result of {reference.id!r}"
        limit = self._core.config.limits.max_argument_bytes
        if len(value.encode()) > limit:
            return f"reference {spelled}: its value has more than {limit} bytes"
        call.values[reference] = value
        return None

    def _dispatch(self, call: CallRecord, final: str) -> None:
        core = self._core
        assert call.tool is not None
        longest = core.config.limits.max_call_time_ms
        timeout_ms = min(call.tool.timeout_ms or longest, longest)
        call.dispatch(core.now_ms)
        call.timer = core.timers.start(TimerKind.CALL, core.now_ms + timeout_ms, call.index)
        report = CallDispatched(
            token_index=core.token_index,
            index=call.index,
            id=call.id,
            function=call.function,
            arguments=final,
            client_owned=call.client_owned,
            timeout_ms=timeout_ms,
        )
        core.out.add(Phase.DISPATCHED, report)
        if call.id is None:
            self._settle_unawaited(call)

    # --- results ---------------------------------------------------------------------------------------------

    def resolve(
        self,
        call: CallRecord,
        status: Status,
        payload: str,
        scheduling: Scheduling = Scheduling.IMMEDIATE,
        *,
        client_seq: int = 0,
    ) -> None:
        """Gives a named call its one terminal result; `pump` must follow."""
        core = self._core
        assert call.id is not None
        self.stop_timer(call)
        call.resolve(status, payload, core.now_ms)
        call.interrupt = core.accept(call.id, status, payload, scheduling, call_index=call.index, client_seq=client_seq)
        self._hold.result_accepted()

    def fail(self, call: CallRecord, kind: ErrorType, message: str, *, claimed: str | None = None) -> None:
        """The call is not run: its id says so, or `@runtime` if it has none [CALL-023, CALL-061]."""
        retryable = kind in _RETRYABLE
        if call.id is not None:
            self.resolve(call, Status.ERROR, error_payload(kind, message, retryable=retryable))
            return
        payload = error_payload(kind, message, retryable=retryable, call_id=claimed, call=call.index)
        call.resolve(Status.ERROR, payload, self._core.now_ms)
        self._core.accept("@runtime", Status.ERROR, payload)
        self._settle_unawaited(call)

    def withdraw(self, call: CallRecord, why: str) -> None:
        """The call ends `cancelled`; of an anonymous one nothing is injected [CALL-080]."""
        payload = error_payload(ErrorType.CANCELLED, f"the call of {call.function} was cancelled: {why}")
        if call.id is not None:
            self.resolve(call, Status.CANCELLED, payload)
            return
        call.resolve(Status.CANCELLED, payload, self._core.now_ms)
        self._settle_unawaited(call)

    def answer_builtin(self, call: CallRecord, payload: str) -> None:
        """A built-in call ends where it stands; an anonymous one tells nobody."""
        if call.id is not None:
            self.resolve(call, Status.OK, payload)
            return
        call.resolve(Status.OK, payload, self._core.now_ms)
        self._settle_unawaited(call)

    def time_out(self, call: CallRecord) -> None:
        """The call's time is over: it resolves whatever its tool says of cancelling [CALL-054]."""
        call.timer = None
        self.stop_host(call, CancelOrigin.DEADLINE)
        if call.id is not None:
            assert call.tool is not None
            message = f"the call of {call.function} did not end in time"
            payload = error_payload(ErrorType.TIMEOUT, message, retryable=call.tool.idempotent)
            self.resolve(call, Status.TIMEOUT, payload)
            self.pump()

    def half_close(self) -> None:
        """Client-owned calls can get no result any more [SES-083]."""
        for call in self._core.calls.open:
            if call.client_owned and not call.resolved:
                if call.dispatched_ms is not None:
                    self.stop_host(call, CancelOrigin.DISCONNECT)
                self.withdraw(call, _NOBODY_ANSWERS)
        self.pump()

    def stop_host(self, call: CallRecord, origin: CancelOrigin) -> None:
        """Tells the host of a dispatched call to stop."""
        call.stopped = True
        self.stop_timer(call)
        report = CallCancelRequested(
            token_index=self._core.token_index,
            index=call.index,
            id=call.id,
            origin=origin,
            client_owned=call.client_owned,
        )
        self._core.out.add(Phase.CANCELLED, report)

    def stop_timer(self, call: CallRecord) -> None:
        """Stops the call's time-out, if it runs."""
        if call.timer is not None:
            self._core.timers.cancel(call.timer)
            call.timer = None

    def _settle_unawaited(self, call: CallRecord) -> None:
        row = call.settle(Delivery.NOT_AWAITED, self._core.now_ms)
        self._core.calls.close(call)
        self._core.out.add(Phase.DISPATCHED, CallSettled(token_index=self._core.token_index, row=row))
