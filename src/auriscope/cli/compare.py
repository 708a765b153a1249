"""``auriscope compare``: models side by side, as a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, progress_bar, say
from auriscope.cli.options import Json, Offline, Out, Threads, use_threads


def _durations(value: str) -> tuple[float, ...]:
    try:
        durations = tuple(sorted({float(part) for part in value.split(",") if part.strip()}))
    except ValueError:
        durations = (-1.0,)
    if any(not duration > 0 for duration in durations):
        raise typer.BadParameter(f"{value!r} is not a list of seconds, such as 1,4,60", param_hint="'--durations'")
    return durations


def compare(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="Addresses of separation models, or label=address.", show_default=False),
    ],
    sets: Annotated[
        list[str],
        typer.Option(
            "--set",
            "-s",
            metavar="SET",
            help="Evaluation set; may be repeated; the first one ranks.",
            show_default=False,
        ),
    ],
    out: Out = Path("comparison"),
    split: Annotated[str, typer.Option("--split", metavar="test|valid", help="Part of the sets.")] = "test",
    durations: Annotated[
        str,
        typer.Option(
            "--durations", metavar="S,S,…", help="Seconds of audio whose time and memory are measured; '' for none."
        ),
    ] = "1,4,16,60,240,600",
    memory_limit: Annotated[
        float | None,
        typer.Option(
            "--memory-limit",
            metavar="GIB",
            min=0.1,
            help="Memory a pass may take.",
            show_default="80 % of what is free",
        ),
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="S", min=1.0, help="Seconds a measurement of cost may take.")
    ] = 300.0,
    json: Json = False,
    offline: Offline = False,
    threads: Threads = None,
) -> None:
    """Compare models on evaluation sets: a leaderboard page, tables and charts. Trains nothing.

    Measures SI-SNRi and SDRi with intervals, parameters, operations, speed, and time and peak memory over durations;
    draws the curves of models that were trained here. Run it again to continue; what is measured is not measured twice.
    """
    seconds = _durations(durations)
    use_threads(threads)
    with one_line_for(models, json=json):
        from auriscope.verbs.compare import CompareOptions
        from auriscope.verbs.compare import compare as run

        options = CompareOptions(
            split=split,
            durations_seconds=seconds,
            speed_seconds=4.0 if 4.0 in seconds or not seconds else seconds[0],
            threads=threads,
            memory_limit_gib=memory_limit,
            limit_seconds=time_limit,
            offline=offline,
        )
        with progress_bar("comparing") as update:
            result = run(models, sets, out, options, on_progress=update)
    failed = False
    for model in result.models:
        for error in model.errors.values():
            failed = True
            complain(f"{model.label}: {error}")
        if json:
            emit(model)
            continue
        found = model.figures.get(result.sets[0], {}).get("si_snri_db")
        value = "–" if found is None or found.value is None else f"{found.value:.2f}"
        interval = "" if found is None or found.low is None else f"  [{found.low:.2f}, {found.high:.2f}]"
        say(f"{model.label:<28}{value:>7} dB{interval}")
    if not json:
        say(f"page: {result.page}")
    if failed:
        raise typer.Exit(1)
