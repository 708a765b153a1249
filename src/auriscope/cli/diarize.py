"""``auriscope diarize``: recordings in, who speaks when out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auriscope.cli.console import Outcome, complain, one_line_for, printable, progress_bar, say
from auriscope.cli.options import (
    Channel,
    Device,
    Force,
    Inputs,
    Json,
    Offline,
    SpeakerModel,
    Threads,
    parse_speakers,
    use_threads,
)


def diarize(
    inputs: Inputs,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for the turns; made if missing.",
            show_default="none: turns are printed",
        ),
    ] = None,
    speakers: Annotated[
        str, typer.Option("--speakers", "-n", metavar="N|auto", help="Number of speakers; auto counts them.")
    ] = "auto",
    model: SpeakerModel = None,
    separator: Annotated[
        str | None,
        typer.Option(
            "--separator",
            metavar="ADDRESS",
            help="Separation model that tells those apart who speak at once.",
            show_default="none: of two at once one is found",
        ),
    ] = None,
    ref: Annotated[
        Path | None,
        typer.Option("--ref", metavar="FILE", help="RTTM file of the true turns: the error is measured."),
    ] = None,
    collar: Annotated[
        float,
        typer.Option(
            "--collar", metavar="SECONDS", min=0.0, help="Not scored before and after the ends of true turns."
        ),
    ] = 0.0,
    skip_overlap: Annotated[
        bool, typer.Option("--skip-overlap", help="Score only where at most one person truly speaks.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="-1…1",
            min=-1.0,
            max=1.0,
            help="Cosine similarity from which two voices are one: lower finds fewer people.",
            show_default="0.6",
        ),
    ] = None,
    channel: Channel = None,
    device: Device = "cpu",
    json: Json = False,
    offline: Offline = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Tell who speaks when in recordings, with any number of people.

    Turns are printed as RTTM, or with --out each recording gets a folder in FOLDER with diarization.rttm and
    diarize.json (all that is known). Recordings may last for hours. With --ref the diarization error is told. What an
    earlier run has done is not done again. A recording that fails stops no other.
    """
    wanted = parse_speakers(speakers) or "auto"
    use_threads(threads)
    from auriscope.speaker.clustering import ClusteringConfig
    from auriscope.speaker.diarization import DiarizationConfig
    from auriscope.verbs.diarize import diarize as run

    config = None
    if threshold is not None:
        config = DiarizationConfig(clustering=ClusteringConfig(threshold=threshold))
    outcome = Outcome(_Describe(printed=out is None), json=json)
    with one_line_for(inputs, json=json), progress_bar("diarizing") as update:
        run(
            list(inputs),
            out,
            model=model,
            separator=separator,
            speakers=wanted,
            reference=ref,
            collar_seconds=collar,
            skip_overlap=skip_overlap,
            config=config,
            channel=channel,
            device=device,
            offline=offline or None,
            force=force,
            progress=lambda state: update(f"{Path(state.input).name}: {state.stage}", state.total_fraction),
            on_result=outcome.tell,
        )
    outcome.exit_if_failed()


class _Describe:
    """Tells people of a result: its turns on stdout, or what was written; what to know of it on stderr."""

    def __init__(self, *, printed: bool) -> None:
        self._printed = printed

    def __call__(self, result: Any) -> None:
        """Tell one."""
        from auriscope.data.rttm import rttm_lines

        for warning in result.warnings:
            complain(f"{printable(result.input)}: {warning}")
        if self._printed:
            for line in rttm_lines(Path(result.input).stem, result.turns):
                say(printable(line))
        else:
            people = f"{result.num_speakers} speaker{'' if result.num_speakers == 1 else 's'}"
            before = ", done before" if result.resumed else ""
            say(f"{printable(result.input)}: {people}, {len(result.turns)} turns{before}")
            for file in result.files:
                say(f"  {printable(file)}")
        if result.errors is not None:
            errors = result.errors
            told = (
                f"diarization error {100 * errors.rate:.1f} %: missed {errors.missed_seconds:.1f} s, "
                f"false alarm {errors.false_alarm_seconds:.1f} s, confusion {errors.confusion_seconds:.1f} s "
                f"of {errors.total_seconds:.1f} s"
            )
            # Beside turns on stdout, it would be taken for one of them.
            (complain if self._printed else lambda line: say(f"  {line}"))(told)
