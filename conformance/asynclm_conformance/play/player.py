"""Plays one case: opens its sessions, takes its steps one by one, and lets each take full effect before the next."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from asynclm.conformance.v1 import results_pb2, scripted_model_pb2, suite_pb2
from asynclm.v1 import control_pb2, session_pb2, types_pb2
from asynclm_conformance.ambient.report import frame_parts
from asynclm_conformance.cases.mapping import to_dict
from asynclm_conformance.cases.model import MAIN, Case, SessionCase
from asynclm_conformance.cases.rpcs import order_given, present_given, request_of, response_given
from asynclm_conformance.faults import PlayError, RpcFailedError, RpcStatus, answer_of
from asynclm_conformance.matching.events import describe, meets
from asynclm_conformance.matching.values import (
    Difference,
    absence,
    difference,
    fault_difference,
    order_difference,
)
from asynclm_conformance.names import short_name
from asynclm_conformance.play import rpcs
from asynclm_conformance.play.defaults import start_of
from asynclm_conformance.play.log import WireLog
from asynclm_conformance.play.stream import SessionStream
from asynclm_conformance.play.target import Target

_SPARE = 64
"""Credit beyond the script that `rest` grants: for the ends of sequence that an exhausted script samples."""

CONTROL_TOKENS_OF_A_FRAME = 3
"""`[INTR]`, `[HEAD]`, `[END]`."""

_WAITING = (types_pb2.STATE_TRAPPED, types_pb2.STATE_DRAINING, types_pb2.STATE_IDLE)
"""States that nothing ends but an event."""

_numbers = itertools.count(1)
_T = TypeVar("_T")


@dataclass
class PlayedSession:
    """A session of a case, as it went.

    Attributes:
        case: what the case says of it.
        stream: everything that was sent and came.
        script_id: the id under which its script was loaded; empty if it has none.
        units: of each piece of its script, in order.
        granted: the credit that it was given so far.
        opened: whether Start was sent.
        cut: how many events had come when the case's steps were over; the trace is about those.
        frames: how many ids each interrupt that was committed has to have, by the event's number; bytes have none
            here, since they are read.
    """

    case: SessionCase
    stream: SessionStream
    script_id: str = ""
    units: tuple[int, ...] = ()
    granted: int = 0
    opened: bool = False
    cut: int = 0
    frames: dict[int, int] = field(default_factory=dict)

    def through(self, line: int) -> int:
        """The units that the script takes up to a line, this line included."""
        return sum(units for piece, units in zip(self.case.pieces, self.units, strict=True) if piece.line <= line)


@dataclass
class Play:
    """A case that was played."""

    sessions: dict[str, PlayedSession]
    log: WireLog
    info: control_pb2.GetServerInfoResponse
    failures: list[results_pb2.Failure] = field(default_factory=list)


class Player:
    """Plays one case against a target.

    Args:
        target: the target.
        case: the case.
        patience_s: for how long anything that has to come is waited for.
        seed: of the sessions of a live case.
    """

    def __init__(self, target: Target, case: Case, *, patience_s: float, seed: int = 0) -> None:
        self._target = target
        self._case = case
        self._patience_s = patience_s
        self._seed = seed
        self._log = WireLog()
        self._step = 0
        self.play = Play({name: self._session(spec) for name, spec in case.sessions.items()}, self._log, target.info)

    def _session(self, spec: SessionCase) -> PlayedSession:
        stream = SessionStream(
            self._target.inference,
            self._log,
            spec.name,
            patience_s=self._patience_s,
            step=lambda: self._step,
            answers=spec.spec.answers,
        )
        return PlayedSession(spec, stream)

    async def run(self) -> Play:
        """Plays it to its end, or to where it cannot go on; what was wrong on the way is in the play's failures.

        Raises:
            CaseError: the case itself is at fault.
        """
        try:
            if MAIN in self.play.sessions:
                await self._open(self.play.sessions[MAIN])
            for number, step in enumerate(self._case.steps, 1):
                self._step = number
                await self._take(step, number - 1)
            self._step = 0
            for session in self.play.sessions.values():
                await self._end(session)
                await self._measure(session)
        except PlayError as error:
            self._fail(error.message, want=error.want, got=error.got, timed_out=error.timed_out)
        finally:
            for session in self.play.sessions.values():
                session.cut = session.cut or len(session.stream.events)
                await session.stream.close()
        return self.play

    # --- sessions --------------------------------------------------------------------------------------------

    async def _open(self, session: PlayedSession) -> None:
        session.opened = True
        spec = session.case.spec
        model = await self._load(session) if spec.script else ""
        start = start_of(session.case, model)
        if self._case.live:
            start.sampling.seed = self._seed
        stream = session.stream
        await (stream.generate(start) if spec.generate else stream.open(start))
        session.granted = start.credit
        if spec.HasField("refused"):
            if stream.events:
                raise PlayError("Start was accepted", want=spec.refused.code, got=describe(stream.events[0]))
            self._compare(spec.refused, await stream.end(), session)
        elif not stream.events:
            raise PlayError("Start was refused", want="Started", got=str(stream.status))
        elif not stream.events[0].HasField("started"):
            raise PlayError("the first event is not Started", want="Started", got=describe(stream.events[0]))
        else:
            await self._settle(session)

    async def _load(self, session: PlayedSession) -> str:
        """Loads the script and returns the model's name."""
        session.script_id = f"case-{next(_numbers)}"
        pieces = session.case.pieces
        counts = await self._ask("LoadScript", self._counts(session.script_id, [piece.step for piece in pieces]))
        session.units = tuple(0 if piece.masked else count for piece, count in zip(pieces, counts, strict=True))
        return f"script:{session.script_id}" + ("+weights" if session.case.spec.weights else "")

    async def _counts(self, script_id: str, steps: Sequence[scripted_model_pb2.ScriptStep]) -> Sequence[int]:
        """Loads steps under an id and returns how many ids each of them has."""
        request = scripted_model_pb2.LoadScriptRequest(id=script_id, steps=steps)
        answer = await answer_of(self._target.scripts.LoadScript(request, timeout=self._patience_s))
        if len(answer.ids_per_step) != len(steps):
            raise PlayError(
                "LoadScript has to return a number for each step [SCR-003]",
                want=f"{len(steps)} numbers",
                got=f"{len(answer.ids_per_step)}",
            )
        return answer.ids_per_step

    async def _ask(self, name: str, call: Awaitable[_T]) -> _T:
        """What an rpc gives that the play cannot do without."""
        try:
            return await call
        except RpcFailedError as error:
            raise PlayError(f"{name} failed", want="OK", got=str(error.status)) from None

    async def _measure(self, session: PlayedSession) -> None:
        """Asks how many ids the parts of each frame have on their own [CML-054]: as many as they have in a script."""
        events = session.stream.events
        started = events[0].started if events else session_pb2.Started()
        committed = [event for event in events if event.HasField("interrupt_committed")]
        if not session.script_id or not committed or not started.binding.eos_ids or started.binding.name == "bytes":
            return
        parts = [
            (event.sequence, text) for event in committed for text in frame_parts(event.interrupt_committed) if text
        ]
        steps = [scripted_model_pb2.ScriptStep(text=text) for _, text in parts]
        try:
            counts = await self._counts("frames", steps)
        except RpcFailedError as error:
            if error.status.code == "INVALID_ARGUMENT":  # larger than a script may be [SCR-012]
                return
            raise PlayError("LoadScript failed", want="OK", got=str(error.status)) from None
        session.frames = {event.sequence: CONTROL_TOKENS_OF_A_FRAME for event in committed}
        for (sequence, _), count in zip(parts, counts, strict=True):
            session.frames[sequence] += count

    async def _settle(self, session: PlayedSession) -> None:
        """Everything that the session was given has taken effect, or its stream has ended."""
        await session.stream.probe()

    async def _end(self, session: PlayedSession) -> None:
        """Brings a session to its end, so that the whole of its stream can be judged."""
        stream, spec = session.stream, session.case.spec
        if not session.opened or spec.HasField("refused"):
            return
        ends_by_itself = bool(session.case.trace) and session.case.trace[-1].kind == "finished"
        if spec.HasField("ends") or (ends_by_itself and stream.status is None and not stream.dropped):
            await self._end_of(session, spec.ends.code or "Finished")
        session.cut = len(stream.events)
        if stream.open_for_writing and not stream.finished:
            await stream.send(session_pb2.ClientEvent(finish=session_pb2.Finish()))
        elif stream.status is None and not stream.finished and not stream.dropped:
            await self._abort(stream.session_id)
        if stream.status is None and not stream.dropped:
            await stream.end()
        elif stream.dropped and stream.session_id:
            await self._abort(stream.session_id)

    async def _end_of(self, session: PlayedSession, want: str) -> None:
        """Waits for a stream that has to end by itself; a probe that is answered at rest shows that it will not."""
        stream = session.stream
        answer = await stream.probe()
        if answer is not None and stream.status is None and _rests(answer):
            raise PlayError(
                "the stream goes on", want=want, got=f"Probed, {short_name(types_pb2.State.DESCRIPTOR, answer.state)}"
            )
        await stream.end()

    async def _abort(self, session_id: str) -> None:
        request = control_pb2.AbortSessionsRequest(session_ids=[session_id])
        await self._ask(
            "AbortSessions", answer_of(self._target.control.AbortSessions(request, timeout=self._patience_s))
        )

    # --- steps -----------------------------------------------------------------------------------------------

    async def _take(self, step: suite_pb2.Step, index: int) -> None:
        session = self.play.sessions.get(step.session or MAIN)
        kind = step.WhichOneof("step")
        if kind == "rpc":
            await self._rpc(step.rpc)
            return
        assert session is not None, "a step is about a session that the case does not have"
        if not session.opened:
            await self._open(session)
        stream = session.stream
        match kind:
            case "grant":
                await self._grant(session, step.grant)
            case "send":
                await stream.send(step.send)
            case "burst":
                for event in step.burst.events:
                    await stream.send(event)
            case "probe":
                await self._probe(session, step.probe)
                return
            case "advance":
                await self._advance(session, step.advance.ms)
            case "wait_for":
                wanted = self._case.waits[index]
                await stream.wait(
                    lambda: any(meets(event, wanted) for event in stream.events), f"{wanted.kind} {dict(wanted.given)}"
                )
                return
            case "half_close":
                await stream.half_close()
            case "drop":
                stream.drop()
            case "resume":
                await self._resume(session, step.resume)
        if not step.at_once:
            await self._settle(session)

    async def _grant(self, session: PlayedSession, grant: suite_pb2.Step.Grant) -> None:
        match grant.WhichOneof("amount"):
            case "through":
                tokens = session.through(grant.through) - session.granted
            case "tokens":
                tokens = grant.tokens
            case _:
                tokens = sum(session.units) - session.granted + _SPARE
        session.granted += max(tokens, 0)
        if tokens or grant.WhichOneof("amount") == "tokens":
            await session.stream.send(session_pb2.ClientEvent(grant=session_pb2.Grant(tokens=tokens)))

    async def _probe(self, session: PlayedSession, expected: suite_pb2.Step.Expected) -> None:
        answer = await session.stream.probe()
        if answer is None:
            raise PlayError("the session is over", want="Probed", got=str(session.stream.status))
        given = to_dict(expected)
        found = to_dict(answer)
        for name in ("state", "credit", "paused", "queued"):
            if expected.HasField(name) and given[name] != found.get(name):
                self._fail(f"Probed.{name}", want=f"{given[name]}", got=f"{found.get(name, 'absent')}", on=session)
        if expected.unresolved or expected.all_resolved:
            want, got = sorted(expected.unresolved), sorted(answer.unresolved)
            if want != got:
                self._fail("Probed.unresolved", want=f"{want}", got=f"{got}", on=session)

    async def _advance(self, session: PlayedSession, ms: int) -> None:
        request = scripted_model_pb2.AdvanceRequest(session_id=session.stream.session_id, ms=ms)
        answer = await self._ask("Advance", answer_of(self._target.scripts.Advance(request, timeout=self._patience_s)))
        self._log.note(session.case.name, f"Advance {ms} ms -> now {answer.now_ms} ms")
        last = answer.last_event_seq
        if not session.stream.dropped:  # what was due has been emitted before Advance returned [SCR-023]
            await session.stream.wait(
                lambda: self._seen(session) >= last, f"event {last}, emitted before Advance returned"
            )

    @staticmethod
    def _seen(session: PlayedSession) -> int:
        return session.stream.events[-1].sequence if session.stream.events else 0

    async def _resume(self, session: PlayedSession, resume: suite_pb2.Step.Resume) -> None:
        old = session.stream
        before, resumed = len(old.events), len(old.resumed)
        first = old.take_aside() if resume.HasField("first_ends") else None
        await old.resume(resume.last_event_seq if resume.HasField("last_event_seq") else None)
        if resume.HasField("refused"):
            if len(old.resumed) > resumed:
                raise PlayError("Resume was accepted", want=resume.refused.code, got="Resumed")
            self._compare(resume.refused, await old.end(), session)
            old.dropped = True  # nobody is there any more
            return
        if old.status is not None and len(old.resumed) == resumed:
            raise PlayError("Resume was refused", want="Resumed", got=str(old.status))
        if first is not None:
            self._compare(resume.first_ends, await self._ended(first), session)
        if resume.HasField("replayed"):
            await self._settle(session)
            got = old.replayed
            if got != resume.replayed:
                self._fail("events sent again", want=f"{resume.replayed}", got=f"{got} (of {before})", on=session)

    async def _ended(self, stream: asyncio.Task[RpcStatus]) -> RpcStatus:
        try:
            return await asyncio.wait_for(asyncio.shield(stream), self._patience_s)
        except TimeoutError:
            raise PlayError(
                "the stream that another has replaced does not end", want="its end", got="nothing", timed_out=True
            ) from None

    async def _rpc(self, rpc: suite_pb2.Rpc) -> None:
        places = {name: session.stream.session_id for name, session in self.play.sessions.items()}
        places |= {f"{name}.script": session.script_id for name, session in self.play.sessions.items()}
        where = f"{self._case.name}, step {self._step}"
        request = request_of(rpc, places, where)
        given = response_given(rpc, places, where)
        in_order = order_given(rpc, places, where)
        present = present_given(rpc, where)

        async def once() -> Difference | None:
            ask = rpcs.pages if in_order else rpcs.call
            status, response = await ask(self._target.channel, rpc, request, self._log, self._patience_s)
            if rpc.HasField("fails"):
                return fault_difference(rpc.fails, status)
            if status.code != "OK" or response is None:
                return f"{rpc.method} failed", "OK", str(status)
            answer = to_dict(response)
            return (
                difference(given, answer, rpc.method)
                or order_difference(in_order, answer, rpc.method)
                or absence(present, answer, rpc.method)
            )

        wrong = await (self._until_none(once) if rpc.eventually else once())
        if wrong is not None:
            message, want, got = wrong
            self._fail(message, want=want, got=got)

    async def _until_none(
        self, once: Callable[[], Awaitable[tuple[str, str, str] | None]]
    ) -> tuple[str, str, str] | None:
        """Asks again and again, for as long as anything is waited for; each answer is a round trip."""
        wrong: Difference | None = None
        try:
            async with asyncio.timeout(self._patience_s):
                while (wrong := await once()) is not None:
                    pass
        except TimeoutError:
            return wrong
        return None

    # --- failures --------------------------------------------------------------------------------------------

    def _compare(self, fault: suite_pb2.Fault, status: RpcStatus, session: PlayedSession) -> None:
        wrong = fault_difference(fault, status)
        if wrong is not None:
            message, want, got = wrong
            self._fail(message, want=want, got=got, on=session)

    def _fail(
        self, message: str, *, want: str = "", got: str = "", on: PlayedSession | None = None, timed_out: bool = False
    ) -> None:
        self.play.failures.append(
            results_pb2.Failure(
                requirement=self._case.message.verifies[0] if self._case.message.verifies else "",
                message=message,
                want=want,
                got=got,
                session=on.case.name if on is not None else "",
                step=self._step,
                timed_out=timed_out,
            )
        )


def _rests(answer: session_pb2.Probed) -> bool:
    """Whether a session that answers so does nothing by itself: with credit that is counted it answers at rest only."""
    return answer.HasField("credit") or answer.paused or answer.state in _WAITING
