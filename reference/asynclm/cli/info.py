"""`asynclm info`: what a server is and can do."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynclm.cli.connect import TargetChoice, connected
from asynclm.cli.measured import said
from asynclm.cli.styles import QUIET
from asynclm.demo.safe import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from asynclm.wire.values import ModelInfo, ServerInfo


def info(
    target: Annotated[str, typer.Argument(help="host:port, or grpcs://host:port for TLS.", show_default=False)],
    token_file: Annotated[Path | None, typer.Option(help="File with the bearer token to send.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Authority of the server's certificate; implies TLS.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Show what a server serves: models, capabilities, limits, tools, the binding of the control tokens."""
    place = TargetChoice(address=target, token_file=token_file, ca_file=ca_file)
    found = asyncio.run(_ask(place))
    if as_json:
        typer.echo(_as_json(found))
    else:
        _print(found)


async def _ask(place: TargetChoice) -> ServerInfo:
    async with connected(place) as llm:
        return await llm.server_info()


def _as_json(info: ServerInfo) -> str:
    return json.dumps(dataclasses.asdict(info), default=_plain, ensure_ascii=False, indent=2)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(getattr(value, "value", value))


def _print(info: ServerInfo) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    emulated = ", emulated on a hosted API" if info.emulated else ""
    console.print(
        _pairs(
            "server",
            {
                "implementation": f"{info.server} {info.server_version}{emulated}",
                "protocol": info.protocol_revision,
                "grammar": info.grammar_hash,
                "capabilities": ", ".join(sorted(info.capabilities)),
                "credit counts": f"{info.unit}s",
            },
        )
    )
    for model in info.models:
        console.print(_pairs(f"model {one_line(model.name, 100)}", _model(model)))
    console.print(_pairs("limits of a session", dataclasses.asdict(info.limits)))
    server_limits = dataclasses.asdict(info.server_limits)
    console.print(_pairs("limits of the server", {name: value or "none" for name, value in server_limits.items()}))
    console.print(_tools(info))
    if info.metrics:
        console.print(_pairs("measured", said(info.metrics)))


def _model(model: ModelInfo) -> dict[str, object]:
    binding = model.binding
    words = ", ".join(
        f"{token.control.value} = {token.spelling}{f' ({token.id})' if token.id is not None else ''}"
        for token in binding.tokens
    )
    return {
        "engine": model.engine,
        **dict(sorted(model.description.items())),  # the wire keeps no order
        "context": f"{model.context_length:,} tokens",
        "sequences": model.max_sequences,
        "vocabulary": f"{model.vocab_size:,} ids" if model.vocab_size else "the model's own",
        "binding": f"{binding.name or 'unlisted'}: {words}",
        "ends a sequence": ", ".join(map(str, binding.eos_ids)),
        "tokenizer": binding.tokenizer_fingerprint,
    }


def _pairs(title: str, rows: Mapping[str, object]) -> Table:
    from rich.text import Text

    table = _table(title, ("", ""))
    table.show_header = False
    for name, value in rows.items():
        said = f"{value:,}" if isinstance(value, int) else one_line(str(value))
        if said:
            table.add_row(Text(name.replace("_", " "), QUIET), Text(said))
    return table


def _tools(info: ServerInfo) -> Table:
    from rich.text import Text

    table = _table("tools of the server's own", ("name", "takes", "usually", "flags", "what it does"))
    for tool in info.tools:
        flags = [name for name in ("cacheable", "idempotent", "cancellable") if getattr(tool, name)]
        flags += [f"side effects {tool.side_effects}"] if tool.side_effects != "none" else []
        usually = f"{tool.expected_duration_ms} ms" if tool.expected_duration_ms else ""
        table.add_row(
            Text(one_line(tool.name, 64), "bold"),
            Text(one_line(", ".join(tool.properties), 200)),
            usually,
            ", ".join(flags),
            Text(one_line(tool.description, 300)),
        )
    if not info.tools:
        table.add_row(Text("none", QUIET))
    return table


def _table(title: str, headings: Iterable[str]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.caption = " "  # an empty line between tables
    for heading in headings:
        table.add_column(heading, header_style=QUIET, overflow="fold")
    return table
