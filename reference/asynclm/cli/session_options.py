"""Options that `run` and `chat` share, and the session that they ask for."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asynclm.cli.faults import CliError
from asynclm.cli.output import ViewChoice
from asynclm.cml.control import BodyLanguage

if TYPE_CHECKING:
    from asynclm.client import SessionOptions

_SESSION = "Session"
_SAMPLING = "Sampling"
_TARGET = "Target"
_LOCAL = "Without --target"


class ModeChoice(enum.StrEnum):
    """When calls run against decoding."""

    ASYNC = "async"
    SYNC = "sync"
    SYNC_PARALLEL = "sync-parallel"


class OnEndChoice(enum.StrEnum):
    """What end of sequence does."""

    WAIT = "wait"
    DETACH = "detach"
    CANCEL = "cancel"
    KEEP = "keep"


class ConstraintsChoice(enum.StrEnum):
    """Which mask guards sampling."""

    NONE = "none"
    STATIC = "static"
    GATES = "gates"
    GRAMMAR = "grammar"


class DeliveryChoice(enum.StrEnum):
    """When results are committed in running text."""

    EAGER = "eager"
    COALESCE = "coalesce"
    LAZY = "lazy"


class GranularityChoice(enum.StrEnum):
    """Where in running text an interrupt may land."""

    TOKEN = "token"
    WORD = "word"
    SENTENCE = "sentence"


def _option(help: str, panel: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=more.pop("show_default", False), **more)


Tools = Annotated[
    list[str] | None,
    _option("Tools that run here: module, module:name or file.py:name. Repeatable.", _SESSION),
]
Mode = Annotated[ModeChoice, _option("When calls run against decoding.", _SESSION, show_default=True)]
OnEnd = Annotated[OnEndChoice, _option("What end of sequence does.", _SESSION, show_default=True)]
System = Annotated[str | None, _option("The system message.", _SESSION)]
MaxNewTokens = Annotated[int | None, _option("Tokens sampled at most.", _SESSION, min=1)]
Constraint = Annotated[ConstraintsChoice | None, _option("Which mask guards sampling. (default: grammar)", _SESSION)]
Granularity = Annotated[
    GranularityChoice | None, _option("Where in text an interrupt may land. (default: token)", _SESSION)
]
Delivery = Annotated[
    DeliveryChoice | None,
    _option("Results in running text: eager, coalesce (with --coalesce-ms), lazy. (default: the server's)", _SESSION),
]
CoalesceMs = Annotated[
    int | None, _option("Milliseconds in which results that come together are gathered.", _SESSION, min=0)
]
Body = Annotated[BodyLanguage | None, _option("The language of call bodies. (default: python_call)", _SESSION)]
Step = Annotated[
    int | None, _option("Decode so many tokens at a time; Enter on an empty line grants more.", _SESSION, min=1)
]
Script = Annotated[
    Path | None,
    _option("A CML text that the model is made to say, instead of deciding itself; `-` for standard input.", _SESSION),
]
Temperature = Annotated[float, _option("0 for greedy, up to 5.", _SAMPLING, show_default=True)]
TopK = Annotated[int, _option("Number of tokens kept; 0 for all.", _SAMPLING, show_default=True)]
TopP = Annotated[float, _option("Probability mass kept.", _SAMPLING, show_default=True)]
MinP = Annotated[float, _option("Least share of the most probable token's probability.", _SAMPLING, show_default=True)]
RepetitionPenalty = Annotated[
    float, _option("Logits of tokens in the context are divided by it.", _SAMPLING, show_default=True)
]
PresencePenalty = Annotated[float, _option("Taken from logits of tokens sampled before.", _SAMPLING, show_default=True)]
FrequencyPenalty = Annotated[float, _option("Taken from those once for each time.", _SAMPLING, show_default=True)]
Stop = Annotated[
    list[str] | None, _option("End decoding where this is written; the text ends before it. Repeatable.", _SAMPLING)
]
Logprobs = Annotated[
    int | None,
    _option("Record log-probabilities, and so many of the most probable tokens.", _SAMPLING, min=0, max=20),
]
Seed = Annotated[int, _option("Seed of the session's generator.", _SAMPLING, show_default=True)]
Target = Annotated[
    str | None, _option("host:port or grpcs://host:port; without it, a server is started here.", _TARGET)
]
TokenFile = Annotated[Path | None, _option("File with the bearer token to send.", _TARGET)]
CaFile = Annotated[Path | None, _option("Authority of the server's certificate, PEM; implies TLS.", _TARGET)]
Engine = Annotated[str, _option("torch, or scripted.", _LOCAL, show_default=True)]
Model = Annotated[str | None, _option("A name that the target serves; without one, what to load here.", _TARGET)]
Dtype = Annotated[str | None, _option("auto, float32, bfloat16, float16.", _LOCAL)]
Device = Annotated[str | None, _option("auto, cpu, cuda, cuda:N.", _LOCAL)]
Threads = Annotated[int | None, _option("CPU threads.", _LOCAL, min=1)]
Adapter = Annotated[str | None, _option("A LoRA adapter for it: a folder, or a Hugging Face id.", _LOCAL)]
Offline = Annotated[bool, _option("Fetch nothing.", _LOCAL, "--offline")]
Record = Annotated[Path | None, _option("Write the session's events there, for `asynclm replay`.", "Output")]
View = Annotated[ViewChoice, _option("auto: live on a terminal, else plain lines.", "Output", show_default=True)]
Input = Annotated[
    bool,
    _option("Send what is typed, or piped in, to the session.", "Output", "--input/--no-input", show_default=True),
]


@dataclass(frozen=True, kw_only=True)
class SessionChoice:
    """What the command line says of a session."""

    tools: tuple[str, ...] = ()
    mode: ModeChoice = ModeChoice.ASYNC
    on_end: OnEndChoice = OnEndChoice.WAIT
    system: str | None = None
    max_new_tokens: int | None = None
    constraints: ConstraintsChoice | None = None
    granularity: GranularityChoice | None = None
    delivery: DeliveryChoice | None = None
    coalesce_ms: int | None = None
    body: BodyLanguage | None = None
    step: int | None = None
    script: Path | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    model: str | None = None

    def messages(self, prompt: str) -> list[dict[str, str]]:
        """The conversation that the session starts with."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": prompt}]

    def options(self) -> SessionOptions:
        """The client's options.

        Raises:
            CliError: a sampling parameter is out of range.
        """
        from asynclm.engine.base import SamplingParams

        try:
            sampling = SamplingParams(
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                min_p=self.min_p,
                repetition_penalty=self.repetition_penalty,
                presence_penalty=self.presence_penalty,
                frequency_penalty=self.frequency_penalty,
                seed=self.seed,
                logprobs=self.logprobs is not None,
                top_logprobs=self.logprobs or 0,
            )
        except ValueError as error:
            raise CliError(str(error).replace("sampling.", "--").replace("_", "-", 1)) from None
        options: SessionOptions = {
            "mode": self.mode.replace("-", "_"),
            "on_end": self.on_end.value,
            "on_disconnect": "cancel",
            "sampling": sampling,
        }
        if self.stop:
            options["stop"] = self.stop
        if self.model is not None:
            options["model"] = self.model
        if self.max_new_tokens is not None:
            options["max_new_tokens"] = self.max_new_tokens
        if self.constraints is not None:
            options["constraints"] = self.constraints.value
        if self.granularity is not None:
            options["granularity"] = self.granularity.value
        if self.delivery is not None:
            options["delivery"] = self.delivery.value
        if self.coalesce_ms is not None:
            options["coalesce_ms"] = self.coalesce_ms
        if self.body is not None:
            options["body_language"] = self.body.value
        if self.step is not None:
            options["credit"] = self.step
        return options
