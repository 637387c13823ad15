"""A run: every chosen case is played and judged, several at a time, and each has one result."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Sequence

from asynclm.conformance.v1 import results_pb2, scripted_model_pb2, suite_pb2
from asynclm_conformance.cases.errors import CaseError
from asynclm_conformance.cases.model import MAIN, Case
from asynclm_conformance.faults import RpcFailedError, TargetGoneError, answer_of
from asynclm_conformance.judge.case import judge
from asynclm_conformance.judge.witness import witnessed
from asynclm_conformance.names import short_name
from asynclm_conformance.play.player import Play, Player
from asynclm_conformance.play.target import ASK_S, Target
from asynclm_conformance.selection import Choice

DEFAULT_TRIES = 8
"""Runs of a live case that names no number."""

MOST_FAILURES = 20
"""Failures of a case that are kept; a target that breaks everything says no more with a thousand."""

MOST_EXCHANGES = 2_000
"""Messages of a case that are kept: the first half and the last half of so many."""

Report = Callable[[results_pb2.CaseResult], None]


class Runner:
    """Runs cases against a target.

    Args:
        target: the target.
        jobs: cases that are played at the same time.
        patience_s: for how long anything that has to come is waited for.
        keep_wire: whether the wire of cases that passed is kept, too.
        report: is given each result as it is there.
    """

    def __init__(self, target: Target, *, jobs: int, patience_s: float, keep_wire: bool, report: Report) -> None:
        self._target = target
        self._jobs = jobs
        self._patience_s = patience_s
        self._keep_wire = keep_wire
        self._report = report

    async def run(self, choices: Sequence[Choice]) -> list[results_pb2.CaseResult]:
        """Runs them all; cases that need the whole server come last, one by one.

        Raises:
            TargetGoneError: the target has ended, or does not answer any more.
        """
        beside = [choice for choice in choices if not choice.case.message.exclusive]
        alone = [choice for choice in choices if choice.case.message.exclusive]
        results = await self._all(beside, self._jobs)
        return results + await self._all(alone, 1)

    async def _all(self, choices: Sequence[Choice], jobs: int) -> list[results_pb2.CaseResult]:
        slots = asyncio.Semaphore(jobs)

        async def one(choice: Choice) -> results_pb2.CaseResult:
            async with slots:
                result = await self._one(choice)
                self._report(result)
                return result

        tasks = [asyncio.create_task(one(choice)) for choice in choices]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _one(self, choice: Choice) -> results_pb2.CaseResult:
        case = choice.case
        result = results_pb2.CaseResult(
            case=case.name,
            title=case.message.title,
            level=case.level,
            feature=case.message.feature,
            verifies=case.message.verifies,
            script=_script(case),
        )
        if choice.skip:
            result.verdict, result.reason = results_pb2.VERDICT_SKIP, choice.skip
            return result
        if choice.untestable:
            result.failures.add(requirement=_first(case.message.verifies), message=choice.untestable)
            return _judged(result, choice)
        began = time.monotonic()
        try:
            await (self._live(choice, result) if case.live else self._scripted(choice, result))
        except CaseError as error:
            result.verdict, result.reason = results_pb2.VERDICT_ERROR, str(error)
            return result
        except TargetGoneError:
            raise
        except Exception as error:  # a fault of the runner is one case's, and never the target's
            (*_, last) = traceback.extract_tb(error.__traceback__)
            told = f"a fault of the runner itself: {error!r} in {last.filename}:{last.lineno}"
            result.verdict, result.reason = results_pb2.VERDICT_ERROR, told
            return result
        finally:
            result.seconds = round(time.monotonic() - began, 4)
        if result.failures:
            await self._target.still_there()
        return _judged(result, choice)

    async def _scripted(self, choice: Choice, result: results_pb2.CaseResult) -> None:
        play = await Player(self._target, choice.case, patience_s=self._patience_s).run()
        self._take(choice, play, result)

    async def _live(self, choice: Choice, result: results_pb2.CaseResult) -> None:
        """Tries until everything has been seen that the case names, or the tries are used up."""
        live = choice.case.message.live
        seen: set[suite_pb2.Witness.ValueType] = set()
        for number in range(1, (live.tries or DEFAULT_TRIES) + 1):
            play = await Player(self._target, choice.case, patience_s=self._patience_s, seed=number).run()
            del result.wire[:]
            self._take(choice, play, result)
            result.tries = number
            for session in play.sessions.values():
                seen |= witnessed(session.stream.events)
            if result.failures or set(live.witness) <= seen:
                break
        result.witnessed.extend(sorted(seen))
        missing = [short_name(suite_pb2.Witness.DESCRIPTOR, kind) for kind in live.witness if kind not in seen]
        if missing and not result.failures:
            result.failures.add(
                requirement=_first(choice.case.message.verifies),
                message="not exercised",
                want=", ".join(missing),
                got=f"not seen in {result.tries} tries",
            )

    def _take(self, choice: Choice, play: Play, result: results_pb2.CaseResult) -> None:
        failures = judge(choice.case, play)
        result.failures.extend(failures[:MOST_FAILURES])
        if len(failures) > MOST_FAILURES:
            more = len(failures) - MOST_FAILURES
            result.failures.add(requirement=failures[-1].requirement, message=f"and {more} failures more")
        if failures or self._keep_wire:
            result.wire.extend(_cut(play.log.exchanges))


async def reset(target: Target) -> None:
    """Forgets the scripts of earlier runs; whether `Reset` does what it has to is left to the cases about it.

    Raises:
        TargetGoneError: the target is not there.
    """
    try:
        await answer_of(target.scripts.Reset(scripted_model_pb2.ResetRequest(), timeout=ASK_S))
    except RpcFailedError as error:
        if error.status.code == "UNAVAILABLE":
            await target.still_there()


def _judged(result: results_pb2.CaseResult, choice: Choice) -> results_pb2.CaseResult:
    """Gives a result its verdict."""
    failed = bool(result.failures)
    if choice.known is not None and not choice.flaky:
        result.verdict = results_pb2.VERDICT_XFAIL if failed else results_pb2.VERDICT_STALE
        result.reason = choice.known if failed else f"listed as known to fail, but passes: {choice.known}"
    elif choice.known is not None and failed:
        result.verdict, result.reason = results_pb2.VERDICT_XFAIL, choice.known
    elif not failed:
        result.verdict = results_pb2.VERDICT_PASS
    elif result.level == suite_pb2.LEVEL_MUST:
        result.verdict = results_pb2.VERDICT_FAIL
    else:
        result.verdict = results_pb2.VERDICT_WARN
    return result


def _cut(exchanges: Sequence[results_pb2.Exchange]) -> list[results_pb2.Exchange]:
    """Everything, or the beginning and the end of too much."""
    left_out = len(exchanges) - MOST_EXCHANGES
    if left_out <= 0:
        return list(exchanges)
    half = MOST_EXCHANGES // 2
    note = results_pb2.Exchange(note=f"{left_out} messages are left out here", at_ms=exchanges[half].at_ms)
    return [*exchanges[:half], note, *exchanges[-half:]]


def _script(case: Case) -> list[str]:
    """What the models of a case say, line by line; lines of other sessions than `main` begin with its name."""
    return [
        f"{'' if name == MAIN else f'{name}: '}{_line(line)}"
        for name, session in case.sessions.items()
        for line in session.spec.script
    ]


def _line(line: suite_pb2.ScriptLine) -> str:
    which = line.WhichOneof("line") or ""
    text = {"cml": line.cml, "text": f"{line.text!r} (literal)", "end": "<end of sequence>"}.get(which, f"<{which}>")
    return f"{text} (masked)" if line.masked else text


def _first(ids: Sequence[str]) -> str:
    return ids[0] if ids else ""
