"""The `asynclm` command: assembles the commands, and turns expected faults into one line and an exit code.

Commands import what they need when they run, so that `asynclm --help` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from asynclm.cli import plugins
from asynclm.cli.bench import bench
from asynclm.cli.chat import chat
from asynclm.cli.check import check
from asynclm.cli.demo import demo
from asynclm.cli.exit_codes import ExitCode
from asynclm.cli.faults import explain
from asynclm.cli.info import info
from asynclm.cli.replay import replay
from asynclm.cli.run import run
from asynclm.cli.serve import serve

_VERBOSE = "asynclm.verbose"


class _Commands(TyperGroup):
    """Runs a command, its own or a registered one, and says in one line what went wrong."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *plugins.names()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or plugins.load(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except (KeyboardInterrupt, BrokenPipeError):
            raise
        except Exception as error:
            fault = explain(error)
            if fault is None and _is_usage(error):
                raise
            if ctx.meta.get(_VERBOSE):
                traceback.print_exception(error)
            elif fault is None:
                said = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
                typer.echo(f"asynclm: fault of this program: {said} (`asynclm --verbose …` shows where)", err=True)
            if fault is not None:
                typer.echo(f"asynclm: {fault}", err=True)
            raise typer.Exit(fault.code if fault is not None else ExitCode.INTERNAL) from None


def _is_usage(error: Exception) -> bool:
    """Whether the command line itself was wrong; typer says so in its own words."""
    return hasattr(error, "exit_code") and hasattr(error, "format_message")


app = typer.Typer(
    name="asynclm",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes: 0 done · 1 the verdict is no (errors found, a floor missed, a session that ended badly) · 2 asked "
        "wrongly · 3 the target fails · 4 a fault of this program · 130 Ctrl-C."
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"asynclm {version('asynclm-protocol')}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show tracebacks of faults.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """AsyncLM: language models that go on decoding while their function calls run."""
    ctx.meta[_VERBOSE] = verbose


app.command()(serve)
app.command()(run)
app.command()(chat)
app.command()(check)
app.command()(info)
app.command()(replay)
app.command()(bench)
app.command()(demo)


def main() -> None:
    """Entry point."""
    try:
        app()
    except BrokenPipeError:
        # The reader of our output has gone (`asynclm … | head`): nothing to say, and nobody to say it to.
        sys.stderr.close()
        raise SystemExit(ExitCode.FAILED) from None
