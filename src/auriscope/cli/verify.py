"""``auriscope verify``: are two recordings of one speaker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auriscope.cli.console import complain, emit, one_line_for, printable, progress_bar, say
from auriscope.cli.options import Channel, Device, Json, Offline, SpeakerModel, Threads, use_threads


def verify(
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[A B]", help="Two recordings, of a voice each.", show_default=False),
    ] = None,
    trials: Annotated[
        Path | None,
        typer.Option(
            "--trials",
            metavar="FILE",
            help="In the place of A and B: a list of pairs, CSV (first, second, target) or lines `1 A B`.",
            show_default=False,
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", metavar="FOLDER", help="What the list's paths are relative to.", show_default="the list's folder"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="CSV file for the list's scores.", show_default="none"),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="FILE",
            help="Write a calibration that is fitted to the list, for --calibration of later calls.",
            show_default="none",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", metavar="FILE", help="Decide by this calibration.", show_default="the model's own"
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="SCORE",
            help="Decide by this: one speaker above, two below.",
            show_default="the calibration's",
        ),
    ] = None,
    cohort: Annotated[
        list[Path] | None,
        typer.Option(
            "--cohort",
            metavar="INPUT",
            help="Recordings of other people, one of each, or a folder of them, to normalise scores; may be repeated.",
            show_default="none",
        ),
    ] = None,
    plda: Annotated[
        str | None,
        typer.Option(
            "--plda", metavar="ADDRESS", help="Score by a fitted PLDA.", show_default="none: cosines of embeddings"
        ),
    ] = None,
    model: SpeakerModel = None,
    channel: Channel = None,
    device: Device = "cpu",
    json: Json = False,
    offline: Offline = False,
    threads: Threads = None,
) -> None:
    """Tell whether two recordings are of one speaker, and how often such a decision is wrong.

    With --trials, score a list of pairs; where it says the answers, print equal error rate and detection cost.
    """
    pair = list(recordings or [])
    if trials is None and len(pair) != 2:
        raise typer.BadParameter(f"give two recordings, or --trials; {len(pair)} were given", param_hint="'A B'")
    if trials is not None and pair:
        raise typer.BadParameter("give two recordings or a list, not both", param_hint="'--trials'")
    for name, given in (("root", root), ("out", out), ("calibrate", calibrate)):
        if trials is None and given is not None:
            raise typer.BadParameter("goes with --trials only", param_hint=f"'--{name}'")
    use_threads(threads)
    from auriscope.verbs.verify import verify as run
    from auriscope.verbs.verify import verify_trials

    common: dict[str, Any] = {
        "model": model,
        "threshold": threshold,
        "calibration": calibration,
        "cohort": cohort or None,
        "plda": plda,
        "channel": channel,
        "device": device,
        "offline": offline or None,
    }
    if trials is None:
        with one_line_for(pair[:1], json=json):
            result = run(pair[0], pair[1], **common)
        for warning in result.warnings:
            complain(warning)
        if json:
            emit(result.to_dict())
        else:
            _describe(result)
        return
    with one_line_for([trials], json=json), progress_bar("embedding") as update:
        listed = verify_trials(trials, root=root, out=out, calibrate_to=calibrate, on_progress=update, **common)
    for line in listed.errors:
        complain(line)
    if json:
        emit(listed.to_dict())
    else:
        _describe_list(listed)
    if listed.num_failed:
        raise typer.Exit(1)


def _describe(result: Any) -> None:
    verdict = {True: "one speaker", False: "two speakers", None: "no decision"}[result.same]
    against = "" if result.threshold is None else f", threshold {result.threshold:.3f}"
    say(f"{verdict}: score {result.score:.3f}{against}")
    if result.probability is not None:
        say(
            f"  probability of one speaker {100 * result.probability:.0f} %, where one is as frequent as two; "
            f"such decisions are wrong in {100 * result.expected_error:.1f} %"
        )


def _describe_list(result: Any) -> None:
    say(f"{printable(result.input)}: {result.num_trials - result.num_failed} of {result.num_trials} trials scored")
    if result.rates is not None:
        rates = result.rates
        say(f"  equal error rate {100 * rates.eer.value:.2f} %{_between(rates.eer, 100.0, ' %')}")
        say(f"  minDCF (0.01)    {rates.min_dcf.value:.3f}{_between(rates.min_dcf, 1.0, '')}")
        say(f"  {rates.num_targets} trials of one speaker, {rates.num_others} of two, {rates.num_speakers} speakers")
    if result.miss is not None and result.false_alarm is not None:
        errors = f"{100 * result.miss:.2f} % missed, {100 * result.false_alarm:.2f} % false alarms"
        say(f"  at the threshold {result.threshold:.3f}: {errors}")
    for file in result.files:
        say(f"  {printable(file)}")


def _between(figure: Any, factor: float, unit: str) -> str:
    if figure.low is None:
        return ""
    return f" (95 % between {factor * figure.low:.2f} and {factor * figure.high:.2f}{unit})"
