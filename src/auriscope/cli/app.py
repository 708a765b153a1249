"""The Typer application: registers the commands and turns every failure into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from auriscope import __version__
from auriscope.cli import (
    align,
    classify,
    compare,
    curate,
    diarize,
    embed,
    enhance,
    evaluate,
    explain,
    export,
    index,
    judge,
    listen,
    match,
    models,
    prepare,
    say,
    separate,
    study,
    train,
    transcribe,
    verify,
    wer,
)
from auriscope.cli.console import complain
from auriscope.errors import AuriscopeError

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
"""Done; something could not be done; wrong usage; stopped by the user (128 + SIGINT)."""


class _Group(TyperGroup):
    """The command group whose ``main`` never lets a traceback through.

    It sits here, and not around the call in :func:`main`, so that Typer's test runner meets the same behaviour as the
    installed command.
    """

    def main(self, args: Sequence[str] | None = None, *positional: Any, **options: Any) -> Any:
        options["standalone_mode"] = False
        options.setdefault("prog_name", "auriscope")
        try:
            code = super().main(args, *positional, **options)
        except (AuriscopeError, MemoryError, OSError) as error:
            code = _failed(error)
        except (KeyboardInterrupt, typer.Abort):
            code = EXIT_INTERRUPTED
        except Exception as error:
            # Typer carries its own copy of click in some releases: a usage error is known by what it can do.
            code = _wrong_usage(error) if hasattr(error, "format_message") else _failed(error)
        # Typer turns an interrupt into this code itself, in most places.
        if code == EXIT_INTERRUPTED:
            complain("stopped; run the same command again to continue")
        sys.exit(code if isinstance(code, int) else EXIT_DONE)


def _failed(error: BaseException) -> int:
    if os.environ.get("AURISCOPE_DEBUG"):
        raise error
    if isinstance(error, AuriscopeError):
        complain(str(error))
    elif isinstance(error, BrokenPipeError):
        # The reader of our output went away (`| head`): nobody is left to read a message, and Python's own flush of
        # stdout at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif isinstance(error, MemoryError):
        complain("there is not enough memory; close other programs or use a smaller model")
    else:
        complain(f"unexpected {type(error).__name__}: {error} (set AURISCOPE_DEBUG=1 to see where)")
    return EXIT_FAILED


def _wrong_usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return EXIT_USAGE
    path = context.command_path if context is not None else "auriscope"
    complain(f"{error.format_message().rstrip('.')}; see {path} --help")
    return EXIT_USAGE


app = typer.Typer(
    name="auriscope",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("listen")(listen.listen)
app.command("separate")(separate.separate)
app.command("enhance")(enhance.enhance)
app.command("judge")(judge.judge)
app.command("transcribe")(transcribe.transcribe)
app.command("align")(align.align)
app.command("say")(say.say)
app.command("wer")(wer.wer)
app.command("diarize")(diarize.diarize)
app.command("embed")(embed.embed)
app.command("verify")(verify.verify)
app.command("classify")(classify.classify)
app.command("index")(index.index)
app.command("match")(match.match)
app.command("explain")(explain.explain)
app.command("prepare")(prepare.prepare)
app.command("curate")(curate.curate)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("export")(export.export)
app.command("models")(models.models)
app.add_typer(study.app)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"auriscope {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Separate a recording into one track per talker, and tell how good each track is without ground truth.

    Exit codes: 0 done, 1 something could not be done (one line says what), 2 wrong usage.
    """


def main() -> None:
    """Run the command line on ``sys.argv``."""
    app()
