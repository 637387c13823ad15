"""What a `Start` asks of a hosted model, checked and made ready: the text form, units of pieces, no masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import grpc

from asynclm.cml.blocks import CmlError
from asynclm.cml.text_form import parse
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import Engine, SamplingParams
from asynclm.engine.constraints import Constraint
from asynclm.engine.hosted import HostedModel, Unmasked
from asynclm.engine.script import ScriptStore, parse_model_name
from asynclm.prompt.build import with_section
from asynclm.prompt.template import CmlPart, Message
from asynclm.server.options import ServerOptions
from asynclm.server.preparation import Prepared, check_prompt, check_size, instructions_section
from asynclm.session.config import Constraints, Limits, Unit
from asynclm.tools.durations import UsualDurations
from asynclm.wire.errors import BAD_CML, UNSUPPORTED, FieldError, FieldViolation, StatusError, shorten
from asynclm.wire.start import StartRequest

_UNSUPPORTED_SAMPLING = ("top_k", "min_p", "repetition_penalty", "logprobs", "top_logprobs")


class HostedPreparation:
    """Makes sessions on a hosted model ready, or says what is wrong with their `Start`.

    Args:
        model: the model.
        options: settings of the server.
        limits: the limits of a session, which its `Start` may lower.
        scripts: the scripts that are loaded.
        own_tools: what the server's own tools declare.
        durations: what those took lately.
    """

    def __init__(
        self,
        model: HostedModel,
        options: ServerOptions,
        limits: Limits,
        scripts: ScriptStore,
        own_tools: Sequence[ToolSpec],
        durations: UsualDurations,
    ) -> None:
        self._model = model
        self._options = options
        self._limits = limits
        self._scripts = scripts
        self._own_tools = own_tools
        self._durations = durations

    async def prepare(self, start: StartRequest) -> Prepared:
        """Checks all of a `Start`.

        Raises:
            FieldError: a field is not allowed, or asks for what a hosted model cannot do.
            StatusError: the model is unknown.
        """
        check_size(start, self._options.limits)
        start = start.with_delivery(self._options.delivery, self._options.coalesce_ms)
        script = self._resolve_model(start.model)
        _check_declared(start)
        tools = start.offered(self._own_tools)
        limits = start.limits_in_force(self._limits)
        messages = with_section(start.messages, instructions_section(start, tools, hosted=True))
        _check_cml(messages, start)
        prompt_tokens = self._model.count(messages)
        check_prompt(prompt_tokens, limits, start)
        timed = [*start.tools, *self._durations.fill_in(tools[len(start.tools) :])]
        config = start.session_config(
            tools=timed, limits=limits, prompt_tokens=prompt_tokens, constraints=Constraints.NONE, unit=Unit.PIECE
        )
        session = self._model.session(messages, start.sampling, script=script)
        return Prepared(
            engine=cast(Engine, session),
            script=None,
            weights=False,
            adapter=None,
            prompt_ids=(),
            config=config,
            constraint=cast(Constraint, Unmasked()),
            manual_clock=script is not None,
        )

    def _resolve_model(self, model: str | None) -> str | None:
        """The script that a session is to be played by, if one is asked for."""
        name = model or self._model.info.model
        script_id, weights = parse_model_name(name)
        if script_id is None and name == self._model.info.model:
            return None
        if script_id is not None and not weights and self._scripts.get(script_id) is not None:
            return script_id
        message = f"start.model is {shorten(name)}; this server has: {self._model.info.model}"
        violation = FieldViolation("start.model", message.removeprefix("start.model "))
        raise StatusError(grpc.StatusCode.NOT_FOUND, message, "UNKNOWN_MODEL", (violation,))


def _check_declared(start: StartRequest) -> None:
    """What a hosted model cannot do is refused by name [WIRE-003, SES-018]."""
    if start.prompt_ids is not None:
        raise FieldError("start.prompt_ids", "is given; a hosted model takes messages only", UNSUPPORTED)
    if start.constraints not in (None, Constraints.NONE):
        message = f"is {start.constraints.name}; a hosted model cannot be masked: NONE is what there is"
        raise FieldError("start.constraints", message, UNSUPPORTED)
    if start.gate_end:
        raise FieldError("start.gate_end", "is true; a hosted model cannot be masked", UNSUPPORTED)
    plain = SamplingParams()
    for name in _UNSUPPORTED_SAMPLING:
        value = getattr(start.sampling, name)
        if value != getattr(plain, name):
            message = f"is {value}; the hosted interface does not have it"
            raise FieldError(f"start.sampling.{name}", message, UNSUPPORTED)


def _check_cml(messages: Sequence[Message], start: StartRequest) -> None:
    for place, message in enumerate(messages):
        for number, part in enumerate(message.parts):
            if isinstance(part, CmlPart):
                try:
                    parse(part.cml, start.body_language)
                except CmlError as error:
                    field = f"start.messages[{place}].parts[{number}].cml"
                    raise FieldError(field, f"is not well formed: {error}", BAD_CML) from None
