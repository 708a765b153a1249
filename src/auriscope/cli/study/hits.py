"""``auriscope study hits``: the task on Mechanical Turk, through its API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auriscope.cli.console import complain, emit, one_line_for, say, to_json
from auriscope.cli.options import Json
from auriscope.cli.study.options import Folder, opened

if TYPE_CHECKING:
    from auriscope.study.mturk import Marketplace
    from auriscope.study.study import Study


def hits(
    folder: Folder,
    publish: Annotated[bool, typer.Option("--publish", help="Publish the task.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show how far the published tasks have come.")] = False,
    expire: Annotated[bool, typer.Option("--expire", help="Let nobody new accept the published tasks.")] = False,
    approve: Annotated[
        bool,
        typer.Option("--approve", help="Approve or reject what was submitted, by stamps and decisions; pay bonuses."),
    ] = False,
    real_money: Annotated[
        bool,
        typer.Option(
            "--real-money",
            help="Leave the sandbox: workers are paid. The campaign must say so too (mturk.sandbox: false).",
        ),
    ] = False,
    reject_invalid: Annotated[
        bool, typer.Option("--reject-invalid", help="With --approve: reject what has no valid stamp.")
    ] = False,
    decisions: Annotated[
        Path | None,
        typer.Option(
            "--decisions",
            metavar="CSV",
            help="With --approve: decisions by hand: session (or rater), decision, bonus, reason.",
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
            help="With --approve: a session is paid if at least this share of its recordings is approved.",
        ),
    ] = 0.5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --approve: only say what would be done.")] = False,
    json: Json = False,
) -> None:
    """Publish the task on Mechanical Turk, watch it, end it, or approve and pay what was submitted.

    Works in the sandbox, which costs nothing, unless --real-money is given. Credentials come from the environment
    (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or from ~/.aws.
    """
    if sum((publish, status, expire, approve)) != 1:
        raise typer.BadParameter("give one of --publish, --status, --expire and --approve", param_hint="'hits'")
    with one_line_for([folder], json=json), opened(folder) as study:
        from auriscope.study.mturk import connect

        market = connect(study, real_money=real_money)
        if publish:
            _tell_published(market.publish(), market, json)
        elif status:
            _tell_status(market, json)
        elif expire:
            for hit_id in market.expire():
                emit({"input": folder, "hit_id": hit_id}) if json else say(f"{hit_id}: takes nobody new")
        else:
            _settle(study, market, decisions, min_approved, reject_invalid=reject_invalid, dry_run=dry_run, json=json)


def _tell_published(hit_id: str, market: Marketplace, json: bool) -> None:
    if json:
        emit({"hit_id": hit_id, "is_sandbox": market.is_sandbox})
        return
    where = "in the sandbox" if market.is_sandbox else "for real money"
    say(f"{hit_id}: published {where}; --status shows where workers find it")


def _tell_status(market: Marketplace, json: bool) -> None:
    for hit in market.status():
        if json:
            emit(to_json(hit))
            continue
        say(
            f"{hit.hit_id}: {hit.status}, {hit.num_submitted} of {hit.num_wanted} submitted, {hit.num_approved} "
            f"approved, {hit.num_rejected} rejected, {hit.num_pending} at work; {hit.link}"
        )


def _settle(
    study: Study,
    market: Marketplace,
    decisions: Path | None,
    min_approved: float,
    *,
    reject_invalid: bool,
    dry_run: bool,
    json: bool,
) -> None:
    from auriscope.study.crowd import payouts
    from auriscope.study.payments import read_overrides

    overrides = read_overrides(decisions) if decisions is not None else None
    with study.database.read() as session:
        due = payouts(study, session, overrides, min_approved)
    for assignment in market.settle(due, reject_invalid=reject_invalid, dry_run=dry_run):
        if json:
            emit(to_json(assignment))
            continue
        line = f"{assignment.assignment_id} of {assignment.worker}: {assignment.decision}"
        if assignment.bonus:
            line += f", bonus {assignment.bonus:.2f}"
        if not assignment.verdict.ok:
            complain(f"{line}; stamp {assignment.verdict.reason}")
        else:
            say(f"{line}; {assignment.reason}" if assignment.reason else line)
