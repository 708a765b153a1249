"""``auriscope explain``: what a classifier heard in a recording, or saw in a picture, as sound, picture and page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auriscope.cli.console import Outcome, complain, one_line_for, printable, progress_bar, say
from auriscope.cli.options import Channel, Device, Force, Json, Offline, Out, Threads, use_threads


def explain(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="Recordings, of any length, or for a classifier of pictures, pictures; or folders of them.",
            show_default=False,
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="piq, l2i, vibi, flint, lmac, lime, gradients, integrated-gradients, occlusion or grad-cam.",
            show_default="the method of the interpreter that is the model, else lime",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="ADDRESS",
            help="Classifier, or an interpreter that was trained for one: a shipped name, a folder, or hf://owner/name.",
            show_default="the classifier that ships",
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            "--classifier",
            metavar="ADDRESS",
            help="Classifier, where the model is an interpreter.",
            show_default="the one that the interpreter names",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="NAME", help="The class to explain.", show_default="the most probable of each input"
        ),
    ] = None,
    out: Out = Path("auriscope-out"),
    separator: Annotated[
        str | None,
        typer.Option(
            "--separator",
            metavar="ADDRESS",
            help="For lime: leave out the tracks of this separation model, not bands and spans.",
            show_default="none",
        ),
    ] = None,
    channel: Channel = None,
    device: Device = "cpu",
    json: Json = False,
    offline: Offline = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Explain what a classifier hears in recordings, or sees in pictures, so that it can be listened to and looked at.

    Each input gets a folder in FOLDER with explain-METHOD.html (opens offline), what was heard and what was left, and
    all figures; FOLDER/items.csv makes a listening study of them. What an earlier run has done is not done again.
    """
    use_threads(threads)
    from auriscope.verbs.explain import explain as run

    outcome = Outcome(_describe, json=json)
    with one_line_for(inputs, json=json), progress_bar("explaining") as update:
        run(
            list(inputs),
            out,
            method=method,
            model=model,
            classifier=classifier,
            label=label,
            separator=separator,
            channel=channel,
            device=device,
            offline=offline or None,
            force=force,
            progress=lambda state: update(f"{Path(state.input).name}: {state.stage}", state.total_fraction),
            on_result=outcome.tell,
        )
    outcome.exit_if_failed()


def _describe(result: Any) -> None:
    for warning in result.warnings:
        complain(f"{printable(result.input)}: {warning}")
    before = " (done before)" if result.resumed else ""
    share = next(row for row in result.probabilities if row.label == result.label)
    say(f"{printable(result.input)}: {printable(result.label)}, by {result.method}{before}")
    say(
        f"  probability {share.input:.2f}, of what was {'heard' if result.kind == 'sound' else 'seen'} alone "
        f"{share.interpretation:.2f}, of what was left {share.rest:.2f}"
    )
    say(f"  {printable(result.page)}")
