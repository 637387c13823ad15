"""Which cases are run: by profile, by patterns, by what the target declares; and which are known to fail."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from asynclm.conformance.v1 import suite_pb2
from asynclm.v1 import control_pb2, session_pb2
from asynclm_conformance.cases.model import Case
from asynclm_conformance.cases.yaml_reading import read_yaml
from asynclm_conformance.names import capability_name

_FEATURE, _CAPABILITY = "FEATURE_", "CAPABILITY_"

UNTESTABLE = "not testable: "
"""What the failure of a case begins with that needs what the target does not declare."""


class SelectionError(ValueError):
    """A pattern, a file of patterns or a profile cannot be used; the message says which and what is allowed."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A claim that can be made.

    Attributes:
        name: what it is called.
        about: what it covers, in a phrase.
        features: whose cases belong to it.
        requires: capabilities without which nothing can be claimed.
        emulated: whether cases that no hosted interface can meet are left out.
    """

    name: str
    about: str
    features: frozenset[int]
    requires: frozenset[int]
    emulated: bool

    def has(self, case: Case) -> bool:
        """Whether a case belongs to it."""
        return case.message.feature in self.features and not (self.emulated and case.message.not_emulated)


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of a selected case.

    Attributes:
        case: the case.
        skip: why it is skipped; empty if it is run.
        untestable: why it cannot be run although the profile asks for it; empty if it can.
        known: why it is known to fail; None if it is not.
        flaky: whether it is known to fail at times only, so that passing is as good.
    """

    case: Case
    skip: str = ""
    untestable: str = ""
    known: str | None = None
    flaky: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of case names, and the reason that stands beside it."""

    text: str
    reason: str = ""

    def matches(self, name: str) -> bool:
        """Whether it is the case's name, its file's, or a pattern of either (`traps/*`, `*/bare-*`)."""
        return fnmatch.fnmatchcase(name, self.text) or name.partition("/")[0] == self.text


@cache
def profiles() -> dict[str, Profile]:
    """The profiles, by name."""
    return {
        name: Profile(
            name=name,
            about=raw["about"],
            features=frozenset(suite_pb2.Feature.Value(_FEATURE + feature) for feature in raw["features"]),
            requires=frozenset(session_pb2.Capability.Value(_CAPABILITY + needed) for needed in raw["requires"]),
            emulated=bool(raw.get("emulated", False)),
        )
        for name, raw in _settings()["profiles"].items()
    }


def smoke_patterns() -> tuple[Pattern, ...]:
    """The cases of `smoke`."""
    return tuple(Pattern(name) for name in _settings()["smoke"])


def _settings() -> Any:
    return read_yaml(
        files("asynclm_conformance").joinpath("profiles.yaml").read_text(encoding="utf-8"), "profiles.yaml"
    )


def profile_called(name: str) -> Profile:
    """The profile of that name.

    Raises:
        SelectionError: there is none.
    """
    known = profiles()
    if name not in known:
        raise SelectionError(f"no profile is called {name!r}; there are {', '.join(known)}")
    return known[name]


def read_selection(given: Sequence[str]) -> tuple[Pattern, ...]:
    """What `--run` is given: as `read_patterns`, but only nothing at all stands for every case.

    Raises:
        SelectionError: a file cannot be read, or the files have no pattern.
    """
    found = read_patterns(given)
    if given and not found:
        raise SelectionError(f"--run {' '.join(given)}: names no case; leave it out to run them all")
    return found


def read_patterns(given: Iterable[str], *, reasons: bool = False) -> tuple[Pattern, ...]:
    """Patterns as they are given on the command line; `@FILE` stands for the lines of a file.

    In a file, a pattern stands on a line of its own; empty lines and what follows a `#` are left out.

    Args:
        given: patterns and `@FILE`s.
        reasons: whether each pattern has to say why, after a `#`.

    Raises:
        SelectionError: a file cannot be read, or a pattern has no reason where one is asked for.
    """
    found: list[Pattern] = []
    for text in given:
        if not text.startswith("@"):
            if reasons:
                raise SelectionError(f"{text!r}: known failures stand in a file, `@FILE`, each with `# its reason`")
            found.append(Pattern(text))
            continue
        path = Path(text[1:])
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SelectionError(f"{path}: cannot be read: {error}") from None
        for number, line in enumerate(lines, 1):
            pattern, _, reason = (part.strip() for part in line.partition("#"))
            if not pattern:
                continue
            if reasons and not reason:
                raise SelectionError(f"{path}:{number}: {pattern} has no reason; write one behind a `#`")
            found.append(Pattern(pattern, reason))
    return tuple(found)


def select(
    cases: Sequence[Case],
    profile: Profile,
    *,
    run: Sequence[Pattern] = (),
    skip: Sequence[Pattern] = (),
    known_failing: Sequence[Pattern] = (),
    known_flaky: Sequence[Pattern] = (),
) -> tuple[Case, ...]:
    """The cases of a profile that the patterns leave.

    Raises:
        SelectionError: a pattern matches no case at all.
    """
    for option, patterns in (
        ("--run", run),
        ("--skip", skip),
        ("--known-failing", known_failing),
        ("--known-flaky", known_flaky),
    ):
        for pattern in patterns:
            if not any(pattern.matches(case.name) for case in cases):
                raise SelectionError(f"{option} {pattern.text}: matches no case; see `asynclm-conformance list`")
    return tuple(
        case
        for case in cases
        if profile.has(case)
        and (not run or any(pattern.matches(case.name) for pattern in run))
        and not any(pattern.matches(case.name) for pattern in skip)
    )


def choose(
    cases: Sequence[Case],
    profile: Profile,
    info: control_pb2.GetServerInfoResponse,
    *,
    known_failing: Sequence[Pattern] = (),
    known_flaky: Sequence[Pattern] = (),
) -> tuple[Choice, ...]:
    """Says of each selected case what becomes of it on a target."""
    choices = []
    for case in cases:
        skip, untestable = _hindrance(case, profile, info)
        failing = next((pattern for pattern in known_failing if pattern.matches(case.name)), None)
        flaky = next((pattern for pattern in known_flaky if pattern.matches(case.name)), None)
        entry = failing or flaky
        choices.append(
            Choice(case, skip, untestable, entry.reason if entry else None, failing is None and flaky is not None)
        )
    return tuple(choices)


def _hindrance(case: Case, profile: Profile, info: control_pb2.GetServerInfoResponse) -> tuple[str, str]:
    """Why a case is skipped, and why it cannot be tested although it has to be."""
    declared = set(info.capabilities)
    missing = [needed for needed in needed_by(case) if needed not in declared]
    if missing:
        names = ", ".join(capability_name(needed) for needed in missing)
        if any(needed in profile.requires for needed in missing):
            return (
                "",
                f"{UNTESTABLE}{profile.name} requires {names}, which the target does not declare",
            )
        return f"the target does not declare {names}", ""
    tools = {tool.name for tool in info.tools}
    absent = [name for name in case.message.needs_tools if name not in tools]
    if absent:
        return f"the target does not offer the tools {', '.join(absent)} of the conformance tool set", ""
    lacks = case.message.lacks
    if lacks and declared.issuperset(lacks):
        return f"the target declares {', '.join(capability_name(lacking) for lacking in lacks)}", ""
    if case.live and all(model.scripted_only for model in info.models):
        return "the target has no model that decodes by itself", ""
    return "", ""


def undeclared(profile: Profile, info: control_pb2.GetServerInfoResponse) -> tuple[str, ...]:
    """The names of the capabilities that a profile asks for and a target does not declare."""
    return tuple(capability_name(needed) for needed in sorted(profile.requires - set(info.capabilities)))


def needed_by(case: Case) -> tuple[int, ...]:
    """The capabilities that a case needs: those that it names, and those that its sessions use."""
    found = dict.fromkeys(case.message.needs)
    specs = [session.spec for session in case.sessions.values()]
    if any(spec.script for spec in specs):
        found[session_pb2.CAPABILITY_SCRIPTED_MODEL] = None
    if any(spec.weights for spec in specs):
        found[session_pb2.CAPABILITY_SCRIPTED_WEIGHTS] = None
    return tuple(found)
