"""``auriscope study analyse``: what a listening study has found, as one page and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from auriscope.cli.console import emit, one_line_for, printable, say, to_json
from auriscope.cli.options import Json, Out
from auriscope.cli.study.options import opened


def analyse(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|CSV",
            help="A listening study's folder, or a table of votes: rater, mixture, system, score and more.",
            show_default=False,
        ),
    ],
    out: Out = Path("analysis"),
    facts: Annotated[
        Path | None,
        typer.Option(
            "--facts",
            metavar="CSV",
            help="What is known of items: item, blind_si_snr_db, epoch, corpus, expected; a manifest is such a table.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        Literal["quality", "naturalness", "similarity", "interpretation"],
        typer.Option("--scale", help="What a table of votes is about; a study's folder says it itself."),
    ] = "quality",
    screening: Annotated[
        Literal["standard", "bt500", "none"],
        typer.Option("--screening", help="How raters who did not listen are found."),
    ] = "standard",
    real: Annotated[
        list[str] | None,
        typer.Option(
            "--real",
            metavar="CORPUS",
            help="A corpus of real mixtures; may be given again.",
            show_default='those with "real" in their name',
        ),
    ] = None,
    bonus: Annotated[
        float | None,
        typer.Option(
            "--bonus", metavar="AMOUNT", min=0, help="The bonus of a good rater.", show_default="the campaign's"
        ),
    ] = None,
    bonus_share: Annotated[
        float,
        typer.Option(
            "--bonus-share",
            metavar="SHARE",
            min=0,
            max=1,
            help="The share of raters, nearest to the others, who get it.",
        ),
    ] = 0.5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of what is drawn at random.")] = 0,
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, max=100_000, help="How often votes are weighted again at random.")
    ] = 2000,
    json: Json = False,
) -> None:
    """Analyse a listening study: mean opinions, ranks, and whether the blind score goes with what people hear.

    Writes report.html and the tables behind it; bonuses.csv is for `auriscope study payments --decisions`.
    """
    with one_line_for([source], json=json):
        try:
            from auriscope.study.analysis import Settings, read_facts, write_analysis
            from auriscope.study.analysis import analyse as analyse_data
        except ModuleNotFoundError as error:
            from auriscope.errors import AuriscopeError

            raise AuriscopeError(f"studies need the package {error.name}: pip install 'auriscope[study]'") from None
        data = _read(source, scale)
        if facts is not None:
            read_facts(facts, data)
        settings = Settings(
            seed=seed,
            num_resamples=resamples,
            screening=screening,
            real=tuple(real) if real else None,
            bonus=bonus,
            bonus_share=bonus_share,
        )
        analysis = analyse_data(data, settings)
        paths = write_analysis(analysis, out)
    if json:
        long = {"raters", "tracks", "votes"}
        emit({"input": source, **{name: value for name, value in to_json(analysis).items() if name not in long}})
        return
    say(analysis.headline)
    for row in analysis.means:
        bounds = "" if row.mean.low is None else f" ({row.mean.low:.2f} to {row.mean.high:.2f})"
        say(f"{printable(row.system)}: {row.mean.value:.2f}{bounds}, {row.num_votes} votes")
    if analysis.num_dropped:
        say(f"{analysis.num_dropped} of {analysis.num_raters} raters are left out")
    say(printable(paths["report"]))


def _read(source: Path, scale: str) -> Any:
    from auriscope.study.analysis import read_csv, read_study

    if source.is_file():
        return read_csv(source, scale)
    with opened(source) as study:
        return read_study(study)
