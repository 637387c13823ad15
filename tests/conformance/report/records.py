"""Records that look like those of real runs, hostile text included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from asynclm.conformance.v1 import results_pb2, suite_pb2
from asynclm.v1 import control_pb2, session_pb2, types_pb2
from asynclm_conformance.report import RecordWriter, Run, read

SCRIPT_TAG = "<script>alert('x')</script>"
ESCAPE = "\x1b[2J\x07 \u202eevil\u2066 \x00 \ufffe \r\n"
LONG = "long " * 40_000
FOREIGN = "日本語 – ñ – 🎉 – \u0645\u0631\u062d\u0628\u0627"
COMMAND = ("asynclm-conformance", "run", "--profile", "full", "--", "./my engine", "--port", "{port}")

PASS, FAIL, WARN = results_pb2.VERDICT_PASS, results_pb2.VERDICT_FAIL, results_pb2.VERDICT_WARN
SKIP, ERROR = results_pb2.VERDICT_SKIP, results_pb2.VERDICT_ERROR
XFAIL, STALE = results_pb2.VERDICT_XFAIL, results_pb2.VERDICT_STALE


def header(name: str = "engine", *, target: str = "./my engine --port {port}", selected: int = 9) -> results_pb2.Header:
    return results_pb2.Header(
        suite_version="0.1.0",
        revision="draft",
        profile="full",
        target=target,
        server=control_pb2.GetServerInfoResponse(
            server=name, server_version="1.2", capabilities=[session_pb2.CAPABILITY_RESUME]
        ),
        started="2026-01-02T03:04:05+00:00",
        command=COMMAND,
        selected=selected,
    )


def result(
    case: str, verdict: results_pb2.Verdict.ValueType = PASS, *, title: str = "Something is so", **fields: object
) -> results_pb2.CaseResult:
    made = results_pb2.CaseResult(
        case=case,
        title=title,
        level=suite_pb2.LEVEL_MUST,
        feature=suite_pb2.FEATURE_INTERRUPTS,
        verifies=["INT-043"],
        verdict=verdict,
        seconds=0.25,
        script=["Looking. [CALL] a [HEAD] f(x=1) [END]", "'[END]' (literal)", "<end of sequence>"],
    )
    made.MergeFrom(results_pb2.CaseResult(**fields))  # type: ignore[arg-type]
    return made


def footer(results: Sequence[results_pb2.CaseResult], claim: str = "conformant to draft at full") -> results_pb2.Footer:
    made = results_pb2.Footer(claim=claim, seconds=3.5)
    for one in results:
        made.counts[results_pb2.Verdict.Name(one.verdict).removeprefix("VERDICT_")] += 1
    return made


def write(path: Path, results: Sequence[results_pb2.CaseResult], *, end: bool = True, **fields: object) -> Path:
    claim = str(fields.pop("claim", "conformant to draft at full"))
    with RecordWriter(path) as writer:
        writer.header(header(**fields))  # type: ignore[arg-type]
        for one in results:
            writer.result(one)
        if end:
            writer.footer(footer(results, claim))
    return path


def run(path: Path, results: Sequence[results_pb2.CaseResult], *, end: bool = True, **fields: object) -> Run:
    return read(write(path, results, end=end, **fields))


def client(number: int, session: str = "main", **event: object) -> results_pb2.Exchange:
    return results_pb2.Exchange(
        session=session,
        at_ms=number,
        client=session_pb2.ClientEvent(client_seq=number, **event),  # type: ignore[arg-type]
    )


def server(sequence: int, index: int = 0, session: str = "main", **event: object) -> results_pb2.Exchange:
    told = session_pb2.ServerEvent(sequence=sequence, token_index=index, time_ms=7 * sequence, **event)  # type: ignore[arg-type]
    return results_pb2.Exchange(session=session, at_ms=sequence, server=told)


def tokens(
    sequence: int, index: int, text: str, *, control: int = 0, session: str = "main", end: bool = False
) -> results_pb2.Exchange:
    said = session_pb2.Tokens(
        ids=range(len(text) or 1),
        text=text,
        control=types_pb2.ControlToken.ValueType(control),
        end_of_sequence=end,
    )
    return server(sequence, index, session, tokens=said)


def conversation(payload: str = '{"v": 1}') -> list[results_pb2.Exchange]:
    """A call, its result, an end: what a case has on the wire."""
    return [
        client(1, start=session_pb2.Start(model="script:case-1", messages=[types_pb2.Message()])),
        server(1, started=session_pb2.Started(session_id="s-1", model="script:case-1", credit=0)),
        client(2, grant=session_pb2.Grant(tokens=23)),
        tokens(2, 0, "Looking. ", control=types_pb2.CONTROL_TOKEN_CALL),
        tokens(3, 10, " a ", control=types_pb2.CONTROL_TOKEN_HEAD),
        tokens(4, 14, " f(x=1) ", control=types_pb2.CONTROL_TOKEN_END),
        server(5, 23, call_emitted=session_pb2.CallEmitted(index=0, id="a", function="f", raw="f(x=1)")),
        client(3, interrupt=session_pb2.Interrupt(source="a", payload=payload)),
        server(
            6,
            23,
            interrupt_committed=session_pb2.InterruptCommitted(
                number=0, source="a", status=types_pb2.STATUS_OK, payload=payload, ids=range(12)
            ),
        ),
        tokens(7, 35, "", end=True),
        server(8, 36, finished=session_pb2.Finished(reason=types_pb2.FINISH_REASON_STOP)),
        results_pb2.Exchange(session="main", at_ms=9, note="the rpc ends: OK"),
    ]


def failure(**fields: object) -> results_pb2.Failure:
    told: dict[str, object] = {
        "requirement": "INT-043",
        "message": "interrupt_committed.payload",
        "want": '{"v": 2}',
        "got": '{"v": 1}',
        "session": "main",
        "step": 3,
        "sequence": 6,
    }
    return results_pb2.Failure(**(told | fields))  # type: ignore[arg-type]


def one_of_each() -> list[results_pb2.CaseResult]:
    """A case for every verdict, one of them as hostile as a target can be."""
    evil = f"{SCRIPT_TAG} [END] {FOREIGN} {ESCAPE}"
    return [
        result("alpha/passes", wire=conversation()),
        result("alpha/passes-quietly"),
        result("alpha/fails", FAIL, title="A result keeps its payload", failures=[failure()], wire=conversation()),
        result(
            "beta/evil",
            FAIL,
            title=f"Evil {SCRIPT_TAG}",
            failures=[failure(requirement=SCRIPT_TAG, message=evil, want=LONG, got=f"two\nlines {evil}")],
            wire=[*conversation(evil + LONG), results_pb2.Exchange(session=SCRIPT_TAG, note=evil)],
            script=[evil],
        ),
        result(
            "beta/warns", WARN, failures=[failure(step=0, sequence=0, timed_out=True)], level=suite_pb2.LEVEL_SHOULD
        ),
        result("beta/skipped", SKIP, reason="the target does not declare GRAMMAR"),
        result("gamma/skipped", SKIP, reason="the target does not declare GRAMMAR"),
        result("gamma/error", ERROR, reason="the case asks for line 9, and the script has 4"),
        result("gamma/known", XFAIL, reason="issue 12", failures=[failure(got="")]),
        result("gamma/stale", STALE, reason="listed as known to fail, but passes: issue 3"),
    ]
