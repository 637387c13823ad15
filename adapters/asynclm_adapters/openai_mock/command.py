"""`asynclm mock-openai`: serves scripted models over the chat-completions API until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynclm.cli.faults import CliError

if TYPE_CHECKING:
    from asynclm_adapters.openai_mock.scripts import Script
    from asynclm_adapters.openai_mock.server import MockOptions

DEFAULT_PORT = 50152


def mock_openai(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any free one.")] = DEFAULT_PORT,
    script: Annotated[
        list[str] | None, typer.Option(help="A script, ID=FILE.json; clients ask for script:ID. Repeatable.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="The key that clients have to send. (default: any)", show_default=False)
    ] = None,
    ttft_ms: Annotated[float, typer.Option(help="Time to first token.")] = 0.0,
    tpot_ms: Annotated[float, typer.Option(help="Time per token.")] = 0.0,
    context_length: Annotated[int | None, typer.Option(help="Tokens in a context. (default: 128000)")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Rate limit. (default: none)")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Rate limit. (default: none)")] = None,
) -> None:
    """Serve scripted models as the OpenAI chat-completions API does, to test against."""
    try:
        from asynclm_adapters.openai_mock.request import CONTEXT_LENGTH
        from asynclm_adapters.openai_mock.server import MockOptions
    except ModuleNotFoundError as error:
        wanted = "pip install 'asynclm-protocol[openai]'"
        raise CliError(f"mock-openai needs {error.name}, which is not installed: {wanted}") from error
    try:
        options = MockOptions(
            host=host,
            port=port,
            api_key=api_key,
            ttft_ms=ttft_ms,
            tpot_ms=tpot_ms,
            context_length=CONTEXT_LENGTH if context_length is None else context_length,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
    except ValueError as error:
        raise CliError(str(error)) from None
    asyncio.run(_serve(options, _read_scripts(script or ())))


async def _serve(options: MockOptions, scripts: Sequence[Script]) -> None:
    from asynclm_adapters.openai_mock.server import MockOpenAI

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    mock = MockOpenAI(options)
    for script in scripts:
        mock.scripts.load(script)
    try:
        await mock.__aenter__()
    except OSError as error:
        raise CliError(f"--port {options.port}: cannot listen on {options.host}: {error.strerror}") from None
    try:
        names = ", ".join(mock.scripts.ids) or "none yet, POST /admin/scripts/ID"
        typer.echo(f"listening on {mock.base_url}\nscripts {names}\nCtrl-C or SIGTERM stops it")
        await stop.wait()
    finally:
        await mock.__aexit__()
    typer.echo("stopped")


def _read_scripts(given: Sequence[str]) -> list[Script]:
    from asynclm_adapters.openai_mock.errors import ApiError
    from asynclm_adapters.openai_mock.request import read_object
    from asynclm_adapters.openai_mock.script_json import read_script

    scripts = []
    for text in given:
        script_id, equals, file = text.partition("=")
        if not (script_id and equals and file):
            raise CliError(f"--script {text[:80]!r}: give ID=FILE.json")
        try:
            scripts.append(read_script(script_id, read_object(Path(file).read_bytes())))
        except ApiError as error:
            raise CliError(f"--script {text[:80]}: {error}") from None
    return scripts
