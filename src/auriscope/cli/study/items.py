"""``auriscope study items``: what a listening study plays to its raters."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, say
from auriscope.cli.options import Json
from auriscope.cli.study.options import Folder, opened
from auriscope.errors import AuriscopeError


def items(
    folder: Folder,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what is wrong with the items, a line each; take nothing in.")
    ] = False,
    system: Annotated[
        list[str] | None,
        typer.Option(
            "--system",
            metavar="NAME=FOLDER",
            help="Instead of the manifest: what separate, enhance or listen wrote for a system; once for each system.",
            show_default=False,
        ),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            "--scores",
            metavar="FILE",
            help="Blind scores of the estimates: what judge --json or listen --json printed, or a report.json.",
            show_default=False,
        ),
    ] = None,
    level_dbfs: Annotated[
        float | None,
        typer.Option(
            "--level-dbfs",
            metavar="DB",
            min=-60.0,
            max=-6.0,
            help="Bring every sound to this level (RMS), such as -26; by default levels stay.",
            show_default=False,
        ),
    ] = None,
    training: Annotated[
        int,
        typer.Option(
            "--training", metavar="N", min=0, help="Set N recordings aside for practice, by the campaign's seed."
        ),
    ] = 0,
    noise_traps: Annotated[
        int,
        typer.Option(
            "--noise-traps", metavar="N", min=0, help="Make N traps: trials with noise in place of the estimates."
        ),
    ] = 0,
    replace: Annotated[
        bool, typer.Option("--replace", help="Forget the items that are there, if nobody has begun to rate them.")
    ] = False,
    json: Json = False,
) -> None:
    """Take in what a listening study plays: copy the sounds into its storage, and list the items.

    Reads the campaign's manifest, or folders of results (--system). Items that are listed already stay as they are.
    """
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study import items as taking
        from auriscope.study import manifest as reading

        campaign = taking.listening_of(study)
        found = reading.read_results(_systems(system)) if system else taking.campaign_manifest(study)
        rows, wrong_scores = reading.with_scores(found.rows, scores or [])
        if training:
            rows = reading.with_training(rows, training, campaign.seed)
        if noise_traps:
            rows = reading.with_noise_traps(rows, noise_traps, campaign.seed)
        problems = [*found.problems, *wrong_scores, *taking.problems_of(rows)]
        for problem in problems:
            complain(problem)
        roles = Counter(row.role for row in rows)
        counts = {role: roles[role] for role in reading.ROLES}
        warnings: list[str] = []
        num_new = num_present = 0
        if not problems:
            if check:
                warnings = taking.shortages(campaign, rows)
            else:
                loaded = taking.load(study, rows, level_dbfs=level_dbfs, replace_all=replace)
                num_new, num_present, warnings = loaded.num_new, loaded.num_present, list(loaded.warnings)
        for warning in warnings:
            complain(f"note: {warning}")
    if json:
        emit(
            {
                "input": folder,
                "num_new": num_new,
                "num_present": num_present,
                "roles": counts,
                "num_systems": len({row.system for row in rows if row.role == "trial"}),
                "problems": problems,
                "warnings": warnings,
            }
        )
    elif not problems:
        listed = ", ".join(f"{number} {role}" for role, number in counts.items() if number)
        say(f"{listed}: nothing is wrong with them" if check else f"{listed}: {num_new} new, {num_present} were there")
    if problems:
        raise typer.Exit(1)


def _systems(given: list[str]) -> dict[str, Path]:
    systems: dict[str, Path] = {}
    for text in given:
        name, divider, folder = text.partition("=")
        if not divider or not name.strip() or not folder:
            raise AuriscopeError(f"--system {text}: write NAME=FOLDER")
        if name in systems:
            raise AuriscopeError(f"--system {text}: {name} is named twice; give each system its own name")
        systems[name] = Path(folder)
    return systems
