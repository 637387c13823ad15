"""`asynclm run`: one prompt, live."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from asynclm.cli import session_options as given
from asynclm.cli.connect import TargetChoice
from asynclm.cli.engines import ADAPTER, DEFAULT_ENGINE, EngineChoice
from asynclm.cli.exit_codes import ExitCode
from asynclm.cli.faults import CliError
from asynclm.cli.output import OutputChoice, ViewChoice
from asynclm.cli.session_options import ModeChoice, OnEndChoice, SessionChoice
from asynclm.cli.talk import talk


def run(
    prompt: Annotated[str, typer.Argument(help="What to ask; `-` reads it from standard input.", show_default=False)],
    tools: given.Tools = None,
    mode: given.Mode = ModeChoice.ASYNC,
    on_end: given.OnEnd = OnEndChoice.WAIT,
    system: given.System = None,
    max_new_tokens: given.MaxNewTokens = None,
    constraints: given.Constraint = None,
    granularity: given.Granularity = None,
    delivery: given.Delivery = None,
    coalesce_ms: given.CoalesceMs = None,
    body: given.Body = None,
    step: given.Step = None,
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
    typed: given.Input = True,
) -> None:
    """Ask once, and watch: the stream with its control tokens, one bar for each call, interrupts where they land.

    What you type while the model decodes is sent as an interrupt from @user and lands in mid-text. Ctrl-P pauses.
    Ctrl-C cancels the calls and prints the ledger; a second one breaks off. Exit code 0: the session ended by itself or
    by its limit of tokens; 1: it ended otherwise; 130: Ctrl-C.
    """
    if prompt == "-":
        prompt, typed = sys.stdin.read(), False
    if not prompt.strip():
        raise CliError("PROMPT: is empty")
    choice = SessionChoice(
        tools=tuple(tools or ()),
        mode=mode,
        on_end=on_end,
        system=system,
        max_new_tokens=max_new_tokens,
        constraints=constraints,
        granularity=granularity,
        delivery=delivery,
        coalesce_ms=coalesce_ms,
        body=body,
        step=step,
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
    code = asyncio.run(talk(prompt, choice, place, OutputChoice(view=view, record=record, typed=typed)))
    if code is not ExitCode.OK:
        raise typer.Exit(code)
