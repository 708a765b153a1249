"""Forgetting the platforms' names: of whoever has been paid, also in the database's files, and of nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select
from typer.testing import CliRunner

from auriscope.cli.app import app
from auriscope.study.ids import now
from auriscope.study.platform_ids import forget
from auriscope.study.schema import AuditEntry, Contributor, Session, Stamp, Submission
from auriscope.study.stamps import redeem_for_assignment, stamp_of
from auriscope.study.study import Study

from .test_removal import database_files, found_in

DETAILS = {"assignmentId": "ASSIGNMENTZQ88", "hitId": "HITZQ99"}
NEEDLES = {"worker": b"WORKERZQ77", "assignment": b"ASSIGNMENTZQ88", "task": b"HITZQ99"}


def decide(study: Study, session_id: str, payment: str) -> None:
    with study.database.write() as session:
        for submission in session.scalars(select(Submission).where(Submission.session_id == session_id)):
            submission.payment = payment


def names(study: Study) -> list[str]:
    with study.database.read() as session:
        return sorted(name for name in session.scalars(select(Contributor.external_id)) if name is not None)


def test_names_of_paid_people_are_gone_from_the_files_and_their_work_stays(
    collection: Study, take_part: Callable[..., str]
) -> None:
    session_id = take_part(collection, "WORKERZQ77", platform="mturk", details=DETAILS)
    take_part(collection, "WAITING", platform="mturk")
    decide(collection, session_id, "approved")
    with collection.database.read() as session:
        stamp = str(stamp_of(collection, session, session.get_one(Session, session_id)))
    assert redeem_for_assignment(collection, stamp, "WORKERZQ77", "ASSIGNMENTZQ88").ok
    assert found_in(database_files(collection), NEEDLES) == set(NEEDLES)

    forgotten = forget(collection, "command")

    assert (forgotten.num_contributors, forgotten.num_sessions, forgotten.num_kept) == (1, 1, 1)
    assert forgotten.is_purged
    assert found_in(database_files(collection), NEEDLES) == set()
    assert names(collection) == ["WAITING"]
    with collection.database.read() as session:
        visit = session.get_one(Session, session_id)
        assert (visit.contributor.platform, visit.arrival, visit.state) == ("mturk", {}, "finished")
        assert session.scalar(select(Stamp.redeemed_by).where(Stamp.session_id == session_id)) == "assignment"
        assert len(session.scalars(select(Submission).where(Submission.session_id == session_id)).all()) == 2
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "platform_ids.forget")).one()
        assert entry.details == {"contributors": 1, "sessions": 1}
    assert forget(collection, "command").num_contributors == 0


def test_names_that_are_still_needed_stay(collection: Study, take_part: Callable[..., str]) -> None:
    for name in ("PENDING", "APPROVED", "REJECTED"):
        decide(collection, take_part(collection, name), name.lower())
    for name in ("OPEN", "LEFT"):
        take_part(collection, name, num_recordings=1)
    recent = take_part(collection, "RECENT")
    decide(collection, recent, "approved")
    hours = collection.campaign.limits.session_hours
    with collection.database.write() as session:
        for visit in session.scalars(select(Session).join(Contributor).where(Contributor.external_id != "OPEN")):
            visit.started_at = now() - timedelta(days=20, hours=hours)
            visit.finished_at = now() - timedelta(days=20) if visit.state == "finished" else None
        session.get_one(Session, recent).finished_at = now() - timedelta(days=9)

    assert forget(collection, "command", older_than_days=10).num_kept == 3
    assert names(collection) == ["OPEN", "PENDING", "RECENT"]
    assert forget(collection, "command").num_kept == 2
    assert names(collection) == ["OPEN", "PENDING"]


def test_a_bonus_that_is_due_keeps_the_name(open_study: Callable[..., Study], take_part: Callable[..., str]) -> None:
    from auriscope.study.crowd import payouts, record_bonuses

    from .conftest import COLLECTION

    study = open_study({**COLLECTION, "payment": {"amount": 1.5, "bonus": 0.5}})
    decide(study, take_part(study, "P1"), "approved")
    assert forget(study, "command").num_kept == 1
    with study.database.read() as session:
        due = payouts(study, session)
    record_bonuses(study, due, "command")
    assert forget(study, "command").num_contributors == 1
    assert names(study) == []


def test_the_command_asks_first_and_says_what_it_forgot(
    open_study: Callable[..., Study], take_part: Callable[..., str]
) -> None:
    from .conftest import COLLECTION

    study = open_study(COLLECTION)
    decide(study, take_part(study, "P1"), "approved")

    def run(*arguments: str | Path, text: str | None = None) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["study", "remove", str(study.folder), *map(str, arguments)], input=text)
        return result.exit_code, result.stdout, result.stderr

    assert run("--platform-ids", text="n\n")[0] == 1
    assert run("--platform-ids", "--older-than-days", "1", "--yes")[1].startswith("forgot the platforms' names of 0")
    assert names(study) == ["P1"]
    code, out, _ = run("--platform-ids", "--yes", "--json")
    assert code == 0
    assert json.loads(out) == {
        "input": str(study.folder), "num_contributors": 1, "num_sessions": 1, "num_kept": 0, "is_purged": True,
    }  # fmt: skip
    assert names(study) == []
    assert run("--platform-ids", "P1")[0] == run("--older-than-days", "1", "P1")[0] == 2
