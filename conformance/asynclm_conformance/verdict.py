"""From results to what can be claimed, and to the exit status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from asynclm.conformance.v1 import results_pb2
from asynclm_conformance.exit_codes import ExitCode
from asynclm_conformance.names import verdict_name


def count(results: Sequence[results_pb2.CaseResult]) -> dict[str, int]:
    """How many cases have each verdict, by its name; those that none has are left out."""
    names = Counter(verdict_name(result.verdict) for result in results)
    return {name: names[name] for name in map(verdict_name, results_pb2.Verdict.values()) if names[name]}


def exit_code(counts: dict[str, int], missing: Sequence[str] = ()) -> ExitCode:
    """The exit status of a run that came to its end.

    Args:
        counts: cases by verdict.
        missing: capabilities that the profile asks for and the target does not declare.
    """
    if counts.get("FAIL") or counts.get("STALE") or missing:
        return ExitCode.NONCONFORMANT
    if counts.get("ERROR"):
        return ExitCode.HARNESS
    if not any(counts.get(name) for name in ("PASS", "WARN", "XFAIL")):
        return ExitCode.NOTHING_SELECTED
    return ExitCode.CONFORMANT


def claim(counts: dict[str, int], *, revision: str, profile: str, whole: bool, missing: Sequence[str] = ()) -> str:
    """What the run shows, in a line.

    Args:
        counts: cases by verdict.
        revision: of the specification.
        profile: what was to be claimed.
        whole: whether all of the profile's cases were selected.
        missing: capabilities that the profile asks for and the target does not declare.
    """
    what = f"conformant to {revision} at {profile}"
    wrong = [
        f"{counts[name]} {words}"
        for name, words in (
            ("FAIL", "failed"),
            ("XFAIL", "known to fail"),
            ("STALE", "wrongly listed as known to fail"),
        )
        if counts.get(name)
    ]
    if missing:
        wrong.insert(0, f"the target does not declare {', '.join(missing)}")
    if counts.get("ERROR"):
        return f"no claim: {counts['ERROR']} cases could not be run"
    if wrong:
        return f"not {what}: {', '.join(wrong)}"
    if not whole:
        return f"no claim at {profile}: only some of its cases were selected, none of which failed"
    if not counts.get("PASS"):
        return "no claim: nothing was run"
    return what
