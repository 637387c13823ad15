"""`asynclm chat`: one session, many turns."""

from __future__ import annotations

import asyncio

import typer

from asynclm.cli import session_options as given
from asynclm.cli.connect import TargetChoice
from asynclm.cli.engines import ADAPTER, DEFAULT_ENGINE, EngineChoice
from asynclm.cli.exit_codes import ExitCode
from asynclm.cli.output import OutputChoice, ViewChoice
from asynclm.cli.session_options import ModeChoice, OnEndChoice, SessionChoice
from asynclm.cli.talk import talk


def chat(
    tools: given.Tools = None,
    mode: given.Mode = ModeChoice.ASYNC,
    system: given.System = None,
    max_new_tokens: given.MaxNewTokens = None,
    constraints: given.Constraint = None,
    granularity: given.Granularity = None,
    delivery: given.Delivery = None,
    coalesce_ms: given.CoalesceMs = None,
    body: given.Body = None,
    script: given.Script = None,
    temperature: given.Temperature = 0.0,
    top_k: given.TopK = 0,
    top_p: given.TopP = 1.0,
    min_p: given.MinP = 0.0,
    repetition_penalty: given.RepetitionPenalty = 1.0,
    presence_penalty: given.PresencePenalty = 0.0,
    frequency_penalty: given.FrequencyPenalty = 0.0,
    seed: given.Seed = 0,
    stop: given.Stop = None,
    logprobs: given.Logprobs = None,
    target: given.Target = None,
    model: given.Model = None,
    token_file: given.TokenFile = None,
    ca_file: given.CaFile = None,
    engine: given.Engine = DEFAULT_ENGINE,
    dtype: given.Dtype = None,
    device: given.Device = None,
    threads: given.Threads = None,
    adapter: given.Adapter = None,
    offline: given.Offline = False,
    record: given.Record = None,
    view: given.View = ViewChoice.AUTO,
) -> None:
    """Talk: one session that is kept between turns, its context and its calls with it.

    What you type while the model decodes interrupts it in mid-text; results of calls wake it when they come.
    Ctrl-D ends the conversation, Ctrl-C cancels the calls and prints the ledger. Lines out of a pipe are sent turn by
    turn.
    """
    choice = SessionChoice(
        tools=tuple(tools or ()),
        mode=mode,
        on_end=OnEndChoice.KEEP,
        system=system,
        max_new_tokens=max_new_tokens,
        constraints=constraints,
        granularity=granularity,
        delivery=delivery,
        coalesce_ms=coalesce_ms,
        body=body,
        script=script,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        seed=seed,
        stop=tuple(stop or ()),
        logprobs=logprobs,
        model=model if target else None,
    )
    local = EngineChoice(
        engine=engine,
        model=model,
        dtype=dtype,
        device=device,
        threads=threads,
        adapters=None if adapter is None else {ADAPTER: adapter},
        offline=offline,
        max_sequences=1,
    )
    place = TargetChoice(address=target, token_file=token_file, ca_file=ca_file, local=local)
    code = asyncio.run(talk(None, choice, place, OutputChoice(view=view, record=record)))
    if code is not ExitCode.OK:
        raise typer.Exit(code)
