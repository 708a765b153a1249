"""The commands of crowd platforms, releases, removal and backups: what they print, where, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from auriscope.cli.app import app
from auriscope.study.schema import Session, Submission
from auriscope.study.stamps import stamp_of
from auriscope.study.study import Study

CAMPAIGN: dict[str, Any] = {
    "kind": "collection",
    "name": "two-at-once",
    "title": "Two voices at once",
    "instructions": "Two people read at the same time.",
    "contact": "lab@example.org",
    "consent": {"version": "1", "text": "We keep your recording."},
    "sentences": [{"id": "a", "text": "One."}, {"id": "b", "text": "Two."}],
    "submissions_per_session": 2,
    "payment": {"amount": 1.5, "bonus": 0.25},
    "mturk": {"reward": 1.5},
}


@pytest.fixture
def study(open_study: Callable[..., Study]) -> Study:
    return open_study(CAMPAIGN)


def run(*arguments: object, text: str | None = None) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["study", *map(str, arguments)], input=text)


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def stamp_for(study: Study, session_id: str) -> str:
    with study.database.read() as session:
        return str(stamp_of(study, session, session.get_one(Session, session_id)))


def approve(study: Study, session_id: str) -> None:
    with study.database.write() as session:
        for submission in session.scalars(select(Submission).where(Submission.session_id == session_id)):
            submission.payment, submission.use = "approved", "included"


def test_verify_says_of_each_stamp_whether_it_holds(study: Study, take_part: Callable[..., str]) -> None:
    good = stamp_for(study, take_part(study, "P1"))
    result = run("verify", study.folder, good, "nonsense")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{good}: valid (prolific P1, session ses_")
    assert result.stderr == "auriscope: nonsense: no stamp, or cut off\n"
    assert run("verify", study.folder, good).exit_code == 0
    seen = objects(run("verify", study.folder, "-", "--json", text=f"{good}\n\nnonsense\n"))
    assert [(one["input"], one["ok"], one["reason"]) for one in seen] == [
        (good, True, "valid"),
        ("nonsense", False, "malformed"),
    ]
    assert run("verify", study.folder).exit_code == 2


def test_verify_redeems_once_and_reads_tables(study: Study, take_part: Callable[..., str], tmp_path: Path) -> None:
    details = {"assignmentId": "A1"}
    good = stamp_for(study, take_part(study, "W1", platform="mturk", details=details))
    table = tmp_path / "Batch.csv"
    table.write_text(f"WorkerId,AssignmentId,Answer.surveycode\nW2,A2,{good}\nW1,A1,{good}\n")
    seen = objects(run("verify", study.folder, "--file", table, "--redeem", "--json"))
    assert [one["reason"] for one in seen] == ["not_theirs", "valid"]
    assert objects(run("verify", study.folder, good, "--json"))[0]["reason"] == "redeemed"
    missing = run("verify", study.folder, "--file", table, "--column", "code")
    assert missing.exit_code == 1
    assert missing.stderr.startswith("auriscope: ")
    assert "has no column 'code'" in missing.stderr


def test_payments_writes_the_files_and_says_what_is_due(
    study: Study, take_part: Callable[..., str], tmp_path: Path
) -> None:
    approve(study, take_part(study, "5f1a"))
    take_part(study, "=5f1b")
    result = run("payments", study.folder, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stdout.startswith("1 approved, 0 rejected, 1 wait\n1.50 USD and 0.25 USD of bonuses\n")
    assert "came with an id that no platform gives" in result.stderr
    assert (tmp_path / "out" / "prolific-approve.txt").read_text() == "5f1a\n"
    (again,) = objects(run("payments", study.folder, "--out", tmp_path / "out", "--json"))
    assert (again["num_approved"], again["bonus"]) == (1, 0)


def test_hits_needs_one_action_and_says_what_is_missing(study: Study) -> None:
    assert run("hits", study.folder).exit_code == 2
    assert run("hits", study.folder, "--publish", "--status").exit_code == 2
    result = run("hits", study.folder, "--publish")
    assert result.exit_code == 1
    assert result.stderr.startswith("auriscope: workers cannot open http://127.0.0.1:8000; set public_url")
    result = run("hits", study.folder, "--status", "--real-money")
    assert result.exit_code == 1
    assert "set mturk.sandbox to false" in result.stderr
    assert run("hits", study.folder, "--status").stdout == ""


def test_a_release_is_made_and_said(study: Study, take_part: Callable[..., str], tmp_path: Path) -> None:
    approve(study, take_part(study, "P1"))
    licence = tmp_path / "LICENSE.txt"
    licence.write_text("Do good.\n")
    options = ("--version", "1.0.0", "--out", tmp_path, "--licence-file", licence, "--audio", "wav", "--json")
    (made,) = objects(run("release", study.folder, *options))
    assert (made["num_recordings"], made["version"]) == (2, "1.0.0")
    assert (Path(made["path"]) / "LICENSE").read_text() == "Do good.\n"
    assert len(list(Path(made["path"]).glob("audio/*/*.wav"))) == 2
    result = run("release", study.folder, *options)
    assert result.exit_code == 1
    assert "this version is there already" in objects(result)[0]["error"]
    assert run("release", "--version", "1.0.0", "--out", tmp_path).exit_code == 2
    result = run("release", "--from-realm", tmp_path, "--version", "0.1.0", "--out", tmp_path)
    assert result.exit_code == 1
    assert "give the folder REAL-M-v0.1.0" in result.stderr


def test_removal_asks_first_and_names_what_it_does_not_reach(study: Study, take_part: Callable[..., str]) -> None:
    take_part(study, "P1")
    refused = run("remove", study.folder, "P1", text="n\n")
    assert refused.exit_code == 1
    assert refused.stderr.endswith("auriscope: nothing was removed\n")
    result = run("remove", study.folder, "P1", "--yes")
    assert result.exit_code == 0
    assert result.stdout == "removed 1 sessions, 2 recordings, 0 votes and 2 files\n"
    assert "backups made before still hold what was removed" in result.stderr
    assert run("remove", study.folder, "P1", "--yes").exit_code == 1
    assert run("remove", study.folder).exit_code == 2
    assert objects(run("remove", study.folder, "--purge", "--json"))[0]["is_purged"] is True


def test_backup_and_restore_say_what_they_did(study: Study, take_part: Callable[..., str], tmp_path: Path) -> None:
    take_part(study, "P1")
    file = tmp_path / "study.tar"
    assert run("backup", study.folder, "--out", file).stdout.startswith(f"{file}: ")
    result = run("restore", file, tmp_path / "again")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'again'}: restored with 2 files\n")
    assert "the backup holds no secret" in result.stderr
    (failed,) = objects(run("restore", file, tmp_path / "again", "--json"))
    assert "is not empty" in failed["error"]
