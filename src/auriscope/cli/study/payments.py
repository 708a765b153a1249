"""``auriscope study payments``: who is to be paid what, in the crowd platforms' own files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, printable, say, to_json
from auriscope.cli.options import Json, Out
from auriscope.cli.study.options import Folder, opened


def payments(
    folder: Folder,
    out: Out = Path("payments"),
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="CSV",
            help="Mechanical Turk's results as downloaded: its Approve and Reject are filled in by the stamps.",
            show_default=False,
        ),
    ] = None,
    column: Annotated[
        str, typer.Option("--column", metavar="NAME", help="The results' column that holds the stamps.")
    ] = "Answer.surveycode",
    reject_invalid: Annotated[
        bool,
        typer.Option(
            "--reject-invalid", help="Reject assignments without a valid stamp, instead of leaving them open."
        ),
    ] = False,
    decisions: Annotated[
        Path | None,
        typer.Option(
            "--decisions",
            metavar="CSV",
            help="Decisions by hand: session (or rater), decision, bonus, reason.",
            show_default=False,
        ),
    ] = None,
    min_approved: Annotated[
        float,
        typer.Option(
            "--min-approved",
            metavar="SHARE",
            min=0,
            max=1,
            help="A session is paid if at least this share of its recordings is approved.",
        ),
    ] = 0.5,
    again: Annotated[
        bool, typer.Option("--again", help="Hand out bonuses too that were handed out before; they are paid twice.")
    ] = False,
    json: Json = False,
) -> None:
    """Write the files by which Mechanical Turk and Prolific approve, reject and pay bonuses, and one table of all.

    Whether somebody is paid follows the reviewers' decisions on payment, and not whether a recording is used.
    """
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study.crowd import payouts
        from auriscope.study.payments import read_overrides, write_payments

        overrides = read_overrides(decisions) if decisions is not None else None
        with study.database.read() as session:
            due = payouts(study, session, overrides, min_approved)
        files = write_payments(
            study, due, out, results=results, column=column, reject_invalid=reject_invalid, again=again
        )
    for session_id in files.left_out:
        complain(f"{session_id}: came with an id that no platform gives, and is in payments.csv only")
    for session_id in files.without_assignment:
        complain(f"{session_id}: came without an AssignmentId, and is in payments.csv only; give --results")
    for finding in files.findings:
        action = "rejected" if finding.decision == "reject" else "left open"
        complain(f"{finding.assignment} of {finding.worker}: stamp {finding.verdict.reason}; {action}")
    if json:
        emit({"input": folder, **to_json(files)})
        return
    say(f"{files.num_approved} approved, {files.num_rejected} rejected, {files.num_waiting} wait")
    say(f"{files.amount:.2f} {files.currency} and {files.bonus:.2f} {files.currency} of bonuses")
    for path in files.paths.values():
        say(printable(path))
