"""``auriscope classify``: recordings or pictures in, their classes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auriscope.cli.console import Outcome, one_line_for, printable, progress_bar, say
from auriscope.cli.options import Channel, Device, Force, Json, Offline, Threads, use_threads


def classify(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="Recordings (WAV, FLAC, Ogg, Opus, MP3; any rate, any number of channels, any length), or pictures "
            "for a classifier of pictures; or folders of them.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="ADDRESS",
            help="Classifier: a shipped name (see `auriscope models`), a folder, or hf://owner/name.",
            show_default="the one of sound events that ships; with --labels, the one of texts and sounds",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="NAMES",
            help="Classes to tell, by whatever names, with commas between; for a model of texts and sounds.",
            show_default="those of the model",
        ),
    ] = None,
    templates: Annotated[
        list[str] | None,
        typer.Option(
            "--templates",
            metavar="TEXT|ensemble",
            help="Prompt for the labels, {} being the label; may be repeated. ensemble is several common ones.",
            show_default="this is a sound of {}",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for classes, and of recordings tables and pictures over time; made if missing.",
            show_default="none",
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="How many classes to give.")] = 5,
    window: Annotated[
        float | None,
        typer.Option(
            "--window",
            metavar="SECONDS",
            help="Length of the windows in which longer recordings are classified.",
            show_default="5; with --labels, as much as the model hears at once",
        ),
    ] = None,
    channel: Channel = None,
    device: Device = "cpu",
    json: Json = False,
    offline: Offline = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Tell what is heard in recordings, over time, or seen in pictures, with probabilities.

    The classes are those of the model, or with --labels those that you name. With --out they are written into
    FOLDER/NAME/classify.json, and of recordings the probabilities over time into classify.csv and classify.png. What an
    earlier run has done is not done again.
    """
    use_threads(threads)
    from auriscope.crossmodal.zeroshot import parse_labels
    from auriscope.verbs.classify import classify as run

    def describe(result: Any) -> None:
        before = ", done before" if result.resumed else ""
        length = "" if result.duration_seconds is None else f" ({result.duration_seconds:.1f} s{before})"
        say(f"{printable(result.input)}{length or before}")
        for found in result.labels:
            say(f"  {100.0 * found.probability:5.1f} %  {found.label}")
        if len(result.windows) > 1:
            for part in _joined(result.windows):
                say(f"  {part[0]:8.1f} to {part[1]:.1f} s: {part[2]}")
        for file in result.files:
            say(f"  {printable(file)}")

    outcome = Outcome(describe, json=json)
    with one_line_for(inputs, json=json), progress_bar("classifying") as update:
        run(
            list(inputs),
            out,
            model=model,
            labels=None if labels is None else parse_labels(labels),
            templates=templates or (),
            top=top,
            window_seconds=window,
            channel=channel,
            device=device,
            offline=offline or None,
            force=force,
            progress=lambda state: update(f"{Path(state.input).name}: {state.stage}", state.total_fraction),
            on_result=outcome.tell,
        )
    outcome.exit_if_failed()


def _joined(windows: Any) -> list[tuple[float, float, str]]:
    """Stretches of one class in a row: windows that overlap meet in the middle of what they share."""
    found: list[tuple[float, float, str]] = []
    for window in windows:
        label = window.label or "silence"
        if found and found[-1][2] == label:
            found[-1] = (found[-1][0], window.end_seconds, label)
            continue
        start = window.start_seconds
        if found:
            start = (start + found[-1][1]) / 2.0
            found[-1] = (found[-1][0], start, found[-1][2])
        found.append((start, window.end_seconds, label))
    return found
