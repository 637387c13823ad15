"""`asynclm serve`: serves a model until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynclm.cli.engines import DEFAULT_ENGINE, EngineChoice, open_engine
from asynclm.cli.faults import CliError
from asynclm.cli.session_options import DeliveryChoice
from asynclm.cli.token import read_token
from asynclm.cli.tool_options import load_all

if TYPE_CHECKING:
    from asynclm.engine.base import Engine
    from asynclm.engine.hosted import HostedModel
    from asynclm.server.options import ServerOptions
    from asynclm.tools.toolset import ToolSet

DEFAULT_PORT = 50151

_SHORT = 80
"""Longer descriptions of a model are for `asynclm info`."""

_MODEL = "Model"
_PORT = "Port"
_SAFETY = "Safety"
_LIMITS = "Limits"
_DELIVERY = "Delivery of results"
_MEMORY = "Memory and batching"
_HOSTED = "Hosted models"


def serve(
    engine: Annotated[
        str, typer.Option(help="torch, scripted, or openai (a hosted chat API).", rich_help_panel=_MODEL)
    ] = DEFAULT_ENGINE,
    model: Annotated[
        str | None,
        typer.Option(
            help="The embedded model's name, a checkpoint folder, or a Hugging Face id. (default: the embedded model)",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.", rich_help_panel=_MODEL)] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.", rich_help_panel=_MODEL)] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", rich_help_panel=_MODEL)] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.", rich_help_panel=_MODEL)] = False,
    quantize: Annotated[
        str | None, typer.Option(help="int8: 8-bit weights, on CPU.", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="A LoRA adapter, NAME=FOLDER or NAME=Hugging Face id; clients ask for MODEL+NAME. Repeatable.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, help="Sequences in one step.", rich_help_panel=_MEMORY)
    ] = None,
    step_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens computed in one step.", rich_help_panel=_MEMORY)
    ] = None,
    kv_policy: Annotated[
        str | None,
        typer.Option(
            help="KV cache of sessions that wait: auto, keep, swap, recompute.",
            rich_help_panel=_MEMORY,
            show_default=False,
        ),
    ] = None,
    kv_memory_mib: Annotated[
        int | None, typer.Option(min=1, help="The most KV cache, in MiB.", rich_help_panel=_MEMORY)
    ] = None,
    prefix_memory_mib: Annotated[
        int | None,
        typer.Option(min=0, help="Of that, kept of prompts for later sessions.", rich_help_panel=_MEMORY),
    ] = None,
    swap_dir: Annotated[
        Path | None, typer.Option(help="Folder for swapped KV cache, on CPU.", rich_help_panel=_MEMORY)
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            help="The chat API's address, ending in /v1. (default: OPENAI_BASE_URL, or OpenAI's own)",
            rich_help_panel=_HOSTED,
            show_default=False,
        ),
    ] = None,
    interrupt_role: Annotated[
        str | None,
        typer.Option(
            help="As what interrupts reach the model: tool, developer, user.",
            rich_help_panel=_HOSTED,
            show_default=False,
        ),
    ] = None,
    upstream_scripts: Annotated[
        bool,
        typer.Option(
            "--upstream-scripts", help="The chat API plays scripts (asynclm mock-openai).", rich_help_panel=_HOSTED
        ),
    ] = False,
    tools: Annotated[
        list[str] | None,
        typer.Option(help="Tools that the server runs: module, module:name or file.py:name. Repeatable."),
    ] = None,
    scripts: Annotated[bool, typer.Option(help="Serve scripted models, for conformance and demonstrations.")] = True,
    host: Annotated[str, typer.Option(help="Address to listen on.", rich_help_panel=_PORT)] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any free one.", rich_help_panel=_PORT)] = DEFAULT_PORT,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="Port of metrics for Prometheus, over plain HTTP; 0 for any free one. (default: none)",
            rich_help_panel=_PORT,
            show_default=False,
        ),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Its address.", rich_help_panel=_PORT)] = "127.0.0.1",
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate, PEM.", rich_help_panel=_SAFETY)] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.", rich_help_panel=_SAFETY)] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="Authority of the clients' certificates (mTLS).", rich_help_panel=_SAFETY)
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token that clients have to send.", rich_help_panel=_SAFETY)
    ] = None,
    insecure_allow_remote: Annotated[
        bool, typer.Option("--insecure-allow-remote", help="Plaintext beyond loopback.", rich_help_panel=_SAFETY)
    ] = False,
    delivery: Annotated[
        DeliveryChoice | None,
        typer.Option(
            help="Results in running text, where a client leaves it open. (default: eager)",
            rich_help_panel=_DELIVERY,
            show_default=False,
        ),
    ] = None,
    coalesce_ms: Annotated[
        int,
        typer.Option(min=0, help="Milliseconds in which coalesce or lazy gathers results.", rich_help_panel=_DELIVERY),
    ] = 0,
    max_sessions: Annotated[
        int | None, typer.Option(min=1, help="Sessions open at once.", rich_help_panel=_LIMITS)
    ] = None,
    context_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens in a context.", rich_help_panel=_LIMITS)
    ] = None,
    max_call_seconds: Annotated[
        float | None,
        typer.Option(min=1, help="The longest that a call may take.", rich_help_panel=_LIMITS, show_default=False),
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="What open sessions get to finish on SIGTERM.", rich_help_panel=_LIMITS)
    ] = 10.0,
    resume_grace_seconds: Annotated[
        float,
        typer.Option(
            min=0, help="How long a session whose stream broke can be resumed; 0: not at all.", rich_help_panel=_LIMITS
        ),
    ] = 30.0,
    max_kept_events: Annotated[
        int | None,
        typer.Option(min=1, help="Events kept for that, of one session, until acknowledged.", rich_help_panel=_LIMITS),
    ] = None,
) -> None:
    """Serve a model and its tools over gRPC. SIGTERM or Ctrl-C drains: open sessions may finish."""
    own = load_all(tools or ())
    options = _options(
        host=host,
        port=port,
        tls=(tls_cert, tls_key, tls_ca),
        token_file=token_file,
        allow_remote=insecure_allow_remote,
        scripts=scripts,
        metrics=(metrics_host, metrics_port),
        delivery=(delivery, coalesce_ms),
        max_sessions=max_sessions,
        context_length=context_length,
        max_call_seconds=max_call_seconds,
        drain_seconds=drain_seconds,
        resume_grace_seconds=resume_grace_seconds,
        max_kept_events=max_kept_events,
    )
    _check_port("--port", options.host, options.port)
    if options.metrics_port is not None:
        _check_port("--metrics-port", options.metrics_host, options.metrics_port)
    opened = open_engine(
        EngineChoice(
            engine=engine,
            model=model,
            dtype=dtype,
            device=device,
            threads=threads,
            offline=offline,
            max_sequences=max_sessions,
            context_length=context_length,
            quantize=quantize,
            adapters=_adapters(adapter or ()),
            max_batch=max_batch,
            step_tokens=step_tokens,
            kv_policy=kv_policy,
            kv_memory_mib=kv_memory_mib,
            prefix_memory_mib=prefix_memory_mib,
            swap_dir=swap_dir,
            base_url=base_url,
            interrupt_role=interrupt_role,
            upstream_scripts=upstream_scripts or None,
        )
    )
    asyncio.run(_serve(opened, options, own))


async def _serve(engine: Engine | HostedModel, options: ServerOptions, tools: ToolSet) -> None:
    from asynclm.server.app import Server
    from asynclm.server.options import host_and_port

    async with Server(engine, options, tools) as server:
        for line in _announcement(server.address, engine, options, tools):
            typer.echo(line)
        if server.metrics_port is not None:
            typer.echo(f"metrics on http://{host_and_port(options.metrics_host, server.metrics_port)}/metrics")
        await server.serve_until_signal()
    typer.echo("stopped")


def _announcement(address: str, engine: Engine | HostedModel, options: ServerOptions, tools: ToolSet) -> list[str]:
    from asynclm.engine.hosted import hosted

    info = engine.info
    about = ", ".join(f"{name} {value}" for name, value in info.description.items() if len(value) <= _SHORT)
    safety = "TLS" if options.tls else "plaintext"
    safety += ", clients show a certificate" if options.tls and options.tls.client_ca else ""
    safety += ", bearer token" if options.token else ""
    scripts = options.scripts and (not hosted(engine) or engine.plays_scripts)
    adapters = [f"with adapters {', '.join(f'{info.model}+{name}' for name in info.adapters)}"] if info.adapters else []
    return [
        f"listening on {address} ({safety})",
        f"model {info.model} ({info.name}{f', {about}' if about else ''}), context of {info.context_length} tokens",
        *adapters,
        f"tools {', '.join(tools.names) or 'none of its own'}; scripted models {'on' if scripts else 'off'}",
        f"Ctrl-C or SIGTERM stops it; open sessions get {options.drain_seconds:g} s to finish",
    ]


def _options(
    *,
    host: str,
    port: int,
    tls: tuple[Path | None, Path | None, Path | None],
    token_file: Path | None,
    allow_remote: bool,
    scripts: bool,
    metrics: tuple[str, int | None],
    delivery: tuple[DeliveryChoice | None, int],
    max_sessions: int | None,
    context_length: int | None,
    max_call_seconds: float | None,
    drain_seconds: float,
    resume_grace_seconds: float,
    max_kept_events: int | None,
) -> ServerOptions:
    import dataclasses

    from asynclm.server.options import ServerLimits, ServerOptions, Tls
    from asynclm.session.config import DeliveryPolicy, Limits

    certificate, key, authority = tls
    if (certificate is None) != (key is None):
        raise CliError("--tls-cert and --tls-key: give both or neither")
    if authority is not None and certificate is None:
        raise CliError("--tls-ca needs --tls-cert and --tls-key")
    for option, path in (("--tls-cert", certificate), ("--tls-key", key), ("--tls-ca", authority)):
        if path is not None and not path.is_file():
            raise CliError(f"{option}: there is no file {path}")
    limits = ServerLimits()
    session_limits = Limits()
    if max_sessions is not None:
        limits = dataclasses.replace(limits, max_sessions=max_sessions)
    if max_kept_events is not None:
        limits = dataclasses.replace(limits, max_kept_events=max_kept_events)
    if context_length is not None:
        session_limits = dataclasses.replace(session_limits, context_length=context_length)
    if max_call_seconds is not None:
        session_limits = dataclasses.replace(session_limits, max_call_time_ms=round(max_call_seconds * 1000))
    try:
        return ServerOptions(
            host=host,
            port=port,
            tls=Tls(certificate=certificate, key=key, client_ca=authority) if certificate and key else None,
            token=read_token(token_file),
            allow_remote_plaintext=allow_remote,
            scripts=scripts,
            metrics_host=metrics[0],
            metrics_port=metrics[1],
            delivery=None if delivery[0] is None else DeliveryPolicy(delivery[0].value),
            coalesce_ms=delivery[1],
            drain_seconds=drain_seconds,
            resume_grace_s=resume_grace_seconds,
            limits=limits,
            session_limits=session_limits,
        )
    except ValueError as error:
        raise CliError(str(error)) from None


def _adapters(given: Sequence[str]) -> dict[str, str]:
    """Adapters by name, from `NAME=PLACE`."""
    adapters: dict[str, str] = {}
    for text in given:
        name, equals, place = text.partition("=")
        if not (name and equals and place):
            raise CliError(f"--adapter {text[:80]!r}: give NAME=FOLDER or NAME=OWNER/REPOSITORY")
        if name in adapters:
            raise CliError(f"--adapter {name[:80]!r} is given twice")
        adapters[name] = place
    return adapters


def _check_port(option: str, host: str, port: int) -> None:
    """Refuses a port that is in use before a model is loaded for seconds; the server has the last word."""
    from asynclm.server.options import host_and_port

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CliError(f"{option} {port}: cannot listen on {host_and_port(host, port)}: {error.strerror}") from None
