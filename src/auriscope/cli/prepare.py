"""``auriscope prepare``: list a corpus of the field for training and evaluation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, printable, progress_bar, say, to_json
from auriscope.cli.options import Json


def prepare(
    corpus: Annotated[
        str,
        typer.Argument(
            metavar="CORPUS",
            help="wsj0-2mix, wsj0-3mix, wham, whamr, libri2mix, libri3mix, voicebank-demand, musdb18, librispeech, "
            "commonvoice, ljspeech, libritts, vctk, voxceleb1, voxceleb2, cryceleb, ami, espeak, esc50, urbansound8k, "
            "tut17, speech-commands, audiomnist, mnist, fashion-mnist, quickdraw, class-folders, audiocaps or clotho.",
            show_default=False,
        ),
    ],
    root: Annotated[Path, typer.Option("--root", metavar="FOLDER", help="Where the corpus lies.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for the manifest; one that prepare wrote is replaced.",
            show_default="manifests/ and the corpus",
        ),
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option("--sample-rate", metavar="HZ", help="Which version.", show_default="the corpus' usual one"),
    ] = None,
    lengths: Annotated[
        str | None, typer.Option("--lengths", metavar="min|max", help="Which version.", show_default="min")
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(
            "--condition",
            metavar="NAME",
            help="Which mixtures: clean, noisy, reverb, noisy-reverb, single or single-reverb; of LibriSpeech and "
            "LibriTTS, which readers measure: clean or other; of AMI, headsets or array; of ESC-50, 50 or 10 "
            "classes; of Speech Commands, 35 or 10 words.",
            show_default="the corpus' usual one",
        ),
    ] = None,
    train_set: Annotated[
        str | None,
        typer.Option(
            "--train-set",
            metavar="NAME",
            help="Of LibriMix: train-360 or train-100; of LibriSpeech and LibriTTS: train-960, train-460 or train-100; "
            "of espeak: 2000, 500 or 8000 utterances; of Quick, Draw!: 4000, 1000, 10000 or 70000 of each class.",
            show_default="the largest",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List a corpus of the field, from where it lies as distributed, for training and evaluation.

    Checks every file and writes a folder that goes into a recipe (data.prepared) or into evaluate in place of a set.
    """
    from auriscope.verbs.prepare import CaptionedSummary, ImageSummary, LabelledSummary, MeetingSummary, SpeechSummary
    from auriscope.verbs.prepare import prepare as run

    with one_line_for([corpus], json=json), progress_bar(corpus) as update:
        result = run(
            corpus,
            root,
            out=out,
            sample_rate=sample_rate,
            lengths=lengths,
            condition=condition,
            train_set=train_set,
            on_progress=partial(update, corpus),
        )
    for warning in result.warnings:
        complain(warning)
    if json:
        emit({"input": corpus, **to_json(result)})
        return
    classes = f", {result.num_classes} classes" if result.num_classes else ""
    rate = f", {result.sample_rate} Hz" if result.sample_rate else ""
    say(f"{printable(result.out)} ({printable(result.condition)}{rate}{classes})")
    for name, split in result.splits.items():
        if isinstance(split, ImageSummary):
            say(f"  {name:<6}{split.num_images:>7} images")
            continue
        if isinstance(split, LabelledSummary):
            say(f"  {name:<6}{split.num_sounds:>7} sounds {split.hours:>8.1f} h {split.num_groups:>5} groups")
            continue
        if isinstance(split, CaptionedSummary):
            say(f"  {name:<6}{split.num_sounds:>7} sounds {split.hours:>8.1f} h {split.num_captions:>6} captions")
            continue
        if isinstance(split, SpeechSummary):
            count = f"{split.num_utterances:>7} utterances"
        elif isinstance(split, MeetingSummary):
            count = f"{split.num_meetings:>7} meetings"
        else:
            count = f"{split.num_mixtures:>7} mixtures"
        say(f"  {name:<6}{count} {split.hours:>8.1f} h {split.num_speakers:>5} speakers")
