"""Random sessions: what a model may write, what a client may ask for and do, and how it may leave."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from asynclm.cml.control import BodyLanguage, Control, Status
from asynclm.cml.toolspec import SideEffects, ToolSpec
from asynclm.engine.base import SamplingParams
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptStep, ScriptText
from asynclm.session.config import Constraints, DeliveryPolicy, ExecutionMode, Granularity, OnEnd
from asynclm.session.state import Scheduling
from asynclm.tools import Partial, Progress, Result
from asynclm.wire.values import OnDisconnect

ANY_OBJECT = {"type": "object"}
CLIENT_TOOLS = (
    ToolSpec(name="f", parameters=ANY_OBJECT),
    ToolSpec(name="brief", parameters=ANY_OBJECT, timeout_ms=50, idempotent=True, side_effects=SideEffects.NONE),
    ToolSpec(name="stuck", parameters=ANY_OBJECT, cancellable=False, side_effects=SideEffects.LOCAL),
    ToolSpec(
        name="typed",
        parameters={
            "type": "object",
            "properties": {"n": {"type": "integer"}, "s": {"type": "string"}},
            "required": ["n"],
            "additionalProperties": False,
        },
        parameter_order=("n", "s"),
    ),
)


def echo(value: Any = None) -> Any:
    """Gives back what it gets."""
    return value


def boom(value: str = "") -> None:
    """Raises."""
    raise RuntimeError(f"no\ud800 good {value}")


async def steps(value: Any = None) -> Any:
    """Speaks before it answers."""
    yield Progress("begun", 0.5)
    yield Partial([1])
    yield Result({"x": [1, 2]})


async def hang(value: Any = None) -> None:
    """Never answers."""
    await asyncio.Event().wait()


SERVER_TOOLS = (echo, boom, steps, hang)

# --- what a model writes -------------------------------------------------------------------------------------------

Steps = tuple[ScriptStep, ...]
Move = tuple[str, dict[str, Any]]

FRESH = tuple("abcdefghij")
BAD_IDS = ("all", "1x", " a ", "x" * 64, "x" * 65, "@user", "cml", "a,b", "\x00", "é")
CLIENT_CALLS = ("f()", "f()", "f(v=1)", "brief()", "stuck()", "typed(n=1)", 'typed(1, "x")')
SERVER_CALLS = ("echo()", 'echo(value="[END]")', "boom()", "steps()", "hang()")
REFERRING = ("f(v={old})", "f(v={old}.x)", "f(v={old}.x[1], w={old})", "typed(n={old})", "echo(value={old})")
WRONG = (
    "",
    "f", "f(", "f(x=)", "f(1)", 'typed(n="x")', "typed()", "typed(1, 2, 3)", "missing()", "f(v=nobody)", "f(v=1, v=2)",
    "cml.cancel()", "cml.cancel(id=a)", "cml.cancel(1)", "cml.other()", "f(" + "[" * 70 + "]" * 70 + ")", "f(v=NaN)",
    'f(v="\\ud800")', 'f(v="' + "z" * 40 + '")',
)  # fmt: skip
JSON_BODIES = (
    "{",
    '{"name": "f"}', '{"name": "f", "arguments": {"v": 1}}', '{"name": "typed", "arguments": {"n": 1}}', '{"name": 1}',
    '{"name": "f", "refs": {"v": "{old}"}}', '{"name": "f", "arguments": {"v": "\\ud800"}}', '{"name": "echo"}',
    '{"name": "cml.cancel", "arguments": {"id": "{old}"}}', '{"name": "\\ud83d\\ude00"}',
)  # fmt: skip
TRAPS = (
    "",
    "",
    "{old}",
    "{old}",
    "{old}, {older}",
    "any {old}, {older}",
    "any {old}, zz",
    "all",
    "all",
    "within 1",
    "all within 0.3",
)
BAD_TRAPS = (
    "zz",
    "any zz",
    "{old}, zz",
    "any",
    ",",
    "all {old}",
    "{old} within 0",
    "within",
    "within 0",
    "{old}, {old}",
    "x" * 90,
)
TEXTS = (
    "Hello ",
    "word",
    ". ",
    "\n",
    "é",
    "日本",
    "\ufffd",
    "[END]",
    "\x00",
    "a rather long stretch of text ",
    "<|eos|>",
)

CONTROL = {control: ScriptControl(control) for control in Control}


def _text(text: str) -> Steps:
    return (ScriptText(text),) if text else ()


def _call(name: str | None, body: str) -> Steps:
    head = () if name is None else (*_text(name), CONTROL[Control.HEAD])
    return (CONTROL[Control.CALL], *head, *_text(body), CONTROL[Control.END])


class Model:
    """Writes a script: mostly what a model means to write, now and then what none should."""

    def __init__(self, random: Random, language: BodyLanguage) -> None:
        self._random = random
        self._json = language is BodyLanguage.JSON
        self._named: list[str] = []

    def script(self) -> Steps:
        parts = [self._part() for _ in range(self._random.randint(1, 9))]
        return tuple(step for part in parts for step in part)

    def _part(self) -> Steps:
        pick = self._random.choice
        kind = self._random.choices(
            ("text", "call", "trap", "cancel", "anonymous", "odd call", "odd trap", "control", "end"),
            (5, 8, 3, 1, 1, 2, 1, 1, 1),
        )[0]
        match kind:
            case "text":
                return _text(pick(TEXTS))
            case "call":
                return _call(self._new(), self._body())
            case "trap":
                return self._trap(pick(TRAPS))
            case "cancel":
                body = '{"name": "cml.cancel", "arguments": {"id": "%s"}}' if self._json else 'cml.cancel(id="%s")'
                return _call(pick((None, self._new())), body % self._old())
            case "anonymous":
                return _call(None, self._body())
            case "odd call":
                return _call(pick((self._old(), self._new(), pick(BAD_IDS), None)), self._filled(pick(WRONG)))
            case "odd trap":
                return self._trap(pick(BAD_TRAPS))
            case "control":
                return (pick(list(CONTROL.values())),)
        return (ScriptEnd(),)

    def _body(self) -> str:
        pick = self._random.choice
        if self._json:
            return self._filled(pick(JSON_BODIES))
        kinds = (CLIENT_CALLS, SERVER_CALLS, REFERRING) if self._named else (CLIENT_CALLS, SERVER_CALLS)
        return self._filled(pick(self._random.choices(kinds, (6, 2, 4)[: len(kinds)])[0]))

    def _trap(self, condition: str) -> Steps:
        return (CONTROL[Control.TRAP], *_text(self._filled(condition)), CONTROL[Control.END])

    def _new(self) -> str:
        self._named.append(FRESH[len(self._named) % len(FRESH)])
        return self._named[-1]

    def _old(self) -> str:
        return self._random.choice(self._named[-3:]) if self._named else "a"

    def _filled(self, text: str) -> str:
        # Read before the call itself is named, except where it should meet itself.
        return text.replace("{old}", self._earlier()).replace("{older}", self._earlier())

    def _earlier(self) -> str:
        known = self._named[:-1] or self._named or ["a"]
        return self._random.choice(known[-3:])


# --- what a client asks for ----------------------------------------------------------------------------------------

LIMITS: dict[str, tuple[int, ...]] = {
    "max_empty_traps": (1, 2, 3),
    "max_new_tokens": (1, 20, 60, 300),
    "max_block_tokens": (3, 8, 30),
    "max_pending_calls": (1, 2),
    "max_payload_bytes": (1, 16, 200),
    "max_argument_bytes": (4, 20),
    "max_queued": (1, 2, 4),
    "context_length": (60, 120, 300),
    "max_call_time_ms": (1, 700),
    "max_idle_time_ms": (1, 900),
}


WITH_ALTERNATIVES = SamplingParams(logprobs=True, top_logprobs=3)


@dataclass(frozen=True)
class Settings:
    """What a session is started with."""

    credit: int | None
    start: dict[str, Any]


def _settings(random: Random) -> Settings:
    pick = random.choice
    limits = {name: pick(values) for name, values in LIMITS.items() if random.random() < 0.08}
    constraints = pick((Constraints.NONE, Constraints.NONE, Constraints.NONE, *Constraints))
    return Settings(
        credit=pick((None, 0, 0, 0, 5, 1000)),
        start={
            "mode": pick((ExecutionMode.ASYNC, ExecutionMode.ASYNC, *ExecutionMode)),
            "on_end": pick((OnEnd.WAIT, OnEnd.WAIT, *OnEnd)),
            "on_disconnect": pick((None, *OnDisconnect)),
            "constraints": constraints,
            "gate_end": constraints in (Constraints.GATES, Constraints.GRAMMAR) and pick((False, True)),
            "body_language": pick((BodyLanguage.PYTHON, BodyLanguage.PYTHON, BodyLanguage.PYTHON, BodyLanguage.JSON)),
            "granularity": pick((Granularity.TOKEN, Granularity.TOKEN, *Granularity)),
            "granularity_hold": pick((None, 0, 3)),
            "delivery": pick((None, None, None, DeliveryPolicy.LAZY)),
            "coalesce_ms": pick((0, 0, 0, 300)),
            "sampling": pick((SamplingParams(), SamplingParams(logprobs=True), WITH_ALTERNATIVES)),
            "stop": pick(((), (), (), (), (), ("rd. ", "ordH", "é日"), ("\nHello \n", "zz", ". ."), ("stretch of t",))),
            "limits": limits,
        },
    )


# --- what a client does --------------------------------------------------------------------------------------------

RESULT = '{"x": [1, 2]}'
PAYLOADS = (
    "1", "null", RESULT, '"' + "y" * 30 + '"', '"\\ud800[END]"', "not json", "NaN", "[" * 70 + "]" * 70, "",
    '{"type": "t", "message": "m", "retryable": false}', '{"message": "half", "fraction": 0.5}', '{"fraction": 1}',
    '{"fraction": 2}', '"\u0000\U0001f600"', "9" * 5000,
)  # fmt: skip
FITTING = {
    Status.OK: RESULT,
    Status.PARTIAL: "[1]",
    Status.PROGRESS: '{"message": "half", "fraction": 0.5}',
    Status.ERROR: '{"type": "t", "message": "m", "retryable": false}',
    Status.CANCELLED: '{"type": "t", "message": "m", "retryable": false}',
    Status.TIMEOUT: '{"type": "t", "message": "m", "retryable": false}',
}
SPEAKERS = ("@user", "@user", "@user", "@system", "@agent.kim")
ODD_SPEAKERS = ("@runtime", "@agent.", "@", "nobody", "true", "x" * 70, "", "@user:ok", "a b")


def _move(random: Random) -> Move:
    pick = random.choice
    scheduling = pick((None, None, None, *Scheduling))
    kind = random.choices(
        (
            "grant",
            "sync",
            "result",
            "odd result",
            "indexed",
            "speak",
            "odd speak",
            "cancel",
            "pause",
            "advance",
            "break",
        ),
        (7, 5, 7, 2, 1, 3, 1, 2, 1, 2, 1),
    )[0]
    match kind:
        case "result":
            status = pick((Status.OK, Status.OK, Status.OK, Status.ERROR, Status.PARTIAL, Status.PROGRESS))
            given = {"payload": FITTING[status], "status": status, "scheduling": scheduling}
            return "result", {"which": random.randrange(8), **given}
        case "odd result":
            status = pick((None, *Status))
            given = {"payload": pick(PAYLOADS), "status": status, "scheduling": scheduling}
            return "result", {"which": random.randrange(8), **given}
        case "indexed":
            status = pick((None, None, *Status))
            return "indexed", {"index": random.randint(-1, 6), "payload": pick(PAYLOADS), "status": status}
        case "speak":
            return "speak", {"source": pick(SPEAKERS), "status": None, "scheduling": scheduling}
        case "odd speak":
            source = pick((*ODD_SPEAKERS, *SPEAKERS))
            return "speak", {"source": source, "status": pick((None, *Status)), "scheduling": scheduling}
        case "cancel":
            return "cancel", {"id": pick((*FRESH[:5], random.randint(-1, 6)))}
        case "grant":
            return "grant", {"tokens": pick((1, 3, 8, 20, 50))}
        case "pause":
            return "pause", {"paused": pick((True, False, False))}
        case "advance":
            return "advance", {"ms": pick((0, 1, 49, 50, 300, 1000))}
        case "break":
            return "reconnect", {}
    return "sync", {}


ENDINGS = (
    "none",
    "none",
    "none",
    "finish",
    "finish_cancel",
    "finish_detach",
    "half_close",
    "half_close",
    "abort",
    "drop",
)


@dataclass(frozen=True)
class Story:
    """One session from beginning to end."""

    settings: Settings
    script: Steps
    moves: Sequence[Move]
    ending: str

    @classmethod
    def of(cls, seed: int) -> Story:
        """The story of a number."""
        random = Random(seed)
        settings = _settings(random)
        moves = [_move(random) for _ in range(random.choice((0, 2, 8, 16, 24)))]
        return cls(settings, Model(random, settings.start["body_language"]).script(), moves, random.choice(ENDINGS))


STORIES = st.integers(0, 2**40).map(Story.of)
