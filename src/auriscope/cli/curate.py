"""``auriscope curate``: pairs of recordings and captions, as a teacher finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, printable, progress_bar, say, to_json
from auriscope.cli.options import Device, Json, Offline, Threads, use_threads


def curate(
    method: Annotated[
        str,
        typer.Argument(
            metavar="du|ds|ads",
            help="du: recordings with the captions near them. ds: the pairs whose caption is near a label. ads: "
            "recordings with the captions near them that are also near a label.",
            show_default=False,
        ),
    ],
    captions: Annotated[
        list[str],
        typer.Option(
            "--captions",
            metavar="SET|FOLDER|FILE",
            help="Captioned sounds: a set, a prepared folder, or, but for ds, a text with a caption a line; may be "
            "repeated.",
            show_default=False,
        ),
    ],
    audio: Annotated[
        list[str] | None,
        typer.Option(
            "--audio",
            metavar="INPUT",
            help="For du and ads, unpaired recordings: files, folders, prepared folders or corpora; may be repeated.",
            show_default="none",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            metavar="ADDRESS",
            help="Model of texts and sounds that says what is near: a shipped name, a folder, or hf://owner/name.",
            show_default="the one that ships",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="NAMES", help="For ds and ads, the domain's classes, with commas between."),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            "--domain",
            metavar="SET|FOLDER",
            help="In the place of --labels: labelled sounds that have them, such as sound-events or manifests/esc50.",
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
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="COSINE",
            min=-1.0,
            max=1.0,
            help="How near a recording and a caption must be.",
            show_default="the paper's",
        ),
    ] = None,
    caption_threshold: Annotated[
        float | None,
        typer.Option(
            "--caption-threshold",
            metavar="COSINE",
            min=-1.0,
            max=1.0,
            help="For ds and ads, how near a caption and a label must be.",
            show_default="the paper's",
        ),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(
            "--most",
            metavar="N",
            min=1,
            help="Keep so many captions of each recording, the nearest.",
            show_default="all",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for the pairs; one that was written before is replaced.",
            show_default="manifests/ and the way",
        ),
    ] = None,
    device: Device = "cpu",
    json: Json = False,
    offline: Offline = False,
    threads: Threads = None,
) -> None:
    """Make pairs of unpaired recordings and captions, for training, by what a teacher finds near.

    Writes a folder that goes into a recipe (data.prepared, data.curated): the manifest, every pair with its cosine in
    pairs.csv, and what they were made from in curate.json. Only train splits are read.
    """
    use_threads(threads)
    from auriscope.crossmodal.zeroshot import TEMPLATES, parse_labels
    from auriscope.verbs.curate import curate as run

    folder = out if out is not None else Path("manifests") / method
    with one_line_for([method], json=json), progress_bar("curating") as update:
        result = run(
            method,  # type: ignore[arg-type]  # the verb says what there is
            folder,
            captions=captions,
            audio=audio or (),
            teacher=teacher,
            labels=None if labels is None else parse_labels(labels),
            domain=domain,
            templates=templates or TEMPLATES,
            audio_threshold=threshold,
            caption_threshold=caption_threshold,
            most=most,
            device=device,
            offline=offline or None,
            progress=update,
        )
    for line in result.left_out:
        complain(line)
    if json:
        emit({"input": method, **to_json(result)})
        return
    say(f"{printable(result.folder)}: {result.num_pairs} pairs, {result.num_recordings_used} recordings")
    near = "" if method == "du" else f", {result.num_captions_near} of them near a label"
    say(f"  from {result.num_recordings} recordings and {result.num_captions} captions{near}")
