"""``auriscope judge``: how good are tracks that somebody separated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auriscope.cli.console import emit, one_line_for, printable, say
from auriscope.cli.options import Json, Offline, QualityModel, Threads, use_threads


def judge(
    mixture: Annotated[
        Path, typer.Argument(metavar="MIXTURE", help="The recording before separation.", show_default=False)
    ],
    tracks: Annotated[
        list[Path], typer.Argument(metavar="TRACK", help="The separated tracks, one per talker.", show_default=False)
    ],
    ref: Annotated[
        list[Path] | None,
        typer.Option(
            "--ref",
            metavar="FILE",
            help="What a talker truly said; once for each talker, in any order.",
            show_default=False,
        ),
    ] = None,
    model: QualityModel = None,
    json: Json = False,
    offline: Offline = False,
    threads: Threads = None,
) -> None:
    """Estimate how good separated tracks are, without ground truth; with --ref, measure it too.

    The blind estimate of a track's SI-SNR comes with its expected error. References are matched to the tracks in the
    best order and give SI-SNR, its improvement over the mixture, and SDR.
    """
    use_threads(threads)
    from auriscope.verbs.judge import judge as run

    with one_line_for([mixture], json=json):
        result = run(mixture, tracks, references=ref or None, model=model, offline=offline or None)
    if json:
        emit(result.to_dict())
        return
    say(printable(result.mixture))
    for track in result.tracks:
        say(f"  {printable(track.path)}")
        if track.blind_si_snr_db is None:
            say("    blind estimate  none: too little sound")
        else:
            unsure = "" if track.in_range else ", outside the trained range"
            say(f"    blind estimate  {track.blind_si_snr_db:.1f} dB ± {track.expected_error_db or 0.0:.1f} dB{unsure}")
        for name, value in (("SI-SNR", track.si_snr_db), ("improvement", track.si_snri_db), ("SDR", track.sdr_db)):
            if value is not None:
                say(f"    {name:<15} {value:.1f} dB")
    for warning in result.warnings:
        say(f"  note: {printable(warning)}")
