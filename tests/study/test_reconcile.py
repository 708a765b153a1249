"""The reconciler: what nobody was told about goes, what was acknowledged and is missing is reported loudly."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.study.jobs import Jobs
from auriscope.study.reconcile import reconcile
from auriscope.study.schema import AuditEntry, Score, Submission
from auriscope.study.storage import put
from auriscope.study.study import Study

Send = Callable[..., Any]
Wav = Callable[..., bytes]


def keys(study: Study) -> list[str]:
    return list(study.storage.keys())


def test_a_study_in_order_stays_as_it_is(collection: Study, sender: Send, wav: Wav) -> None:
    sender(collection).send(wav())
    before = keys(collection)
    found = reconcile(collection, grace_seconds=0, verify=True)
    assert (found.swept, found.orphans, found.missing, found.damaged) == (0, [], [], [])
    assert keys(collection) == before
    with collection.database.read() as session:
        assert session.scalars(select(AuditEntry)).all() == []


def test_a_crash_before_the_commit_leaves_an_orphan_and_the_recording_can_be_sent_again(
    collection: Study, sender: Send, wav: Wav
) -> None:
    visitor, key, data = sender(collection), str(uuid4()), wav()
    task = visitor.task()
    upload = {"key": key, "task": task, "data": data.hex(), "session": visitor.session_id}
    code = """
import hashlib, json, os, signal, sys
from auriscope.study.schema import Session
from auriscope.study.study import Study
from auriscope.study.uploads import Intake, Upload
given = json.load(sys.stdin)
study = Study.open(sys.argv[1])
data = bytes.fromhex(given["data"])
with study.database.read() as session:
    visit = session.get_one(Session, given["session"])
intake = Intake(study, visit, Upload(given["key"], given["task"], hashlib.sha256(data).hexdigest()))
intake.add(data)
study.database.write = lambda: os.kill(os.getpid(), signal.SIGKILL)
intake.keep()
"""
    command = [sys.executable, "-c", code, collection.folder]
    done = subprocess.run(command, input=json.dumps(upload), text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    (orphan,) = keys(collection)
    assert visitor.send(data, key=key, task=task).status_code == 201
    assert reconcile(collection).orphans == []
    assert reconcile(collection, grace_seconds=0).orphans == [orphan]
    (kept,) = keys(collection)
    with collection.database.read() as session:
        assert session.scalars(select(Submission.storage_key)).all() == [kept]


def test_tracks_without_a_score_go_too(collection: Study, sender: Send, wav: Wav) -> None:
    submission = sender(collection).send(wav()).json()["submission"]
    for number in (1, 2):
        put(collection.storage, f"tracks/{submission}/track{number}.wav", b"track")
    put(collection.storage, "tracks/sub_removed/track1.wav", b"track")
    put(collection.storage, "items/itm_1/0.wav", b"not ours to judge")
    with collection.database.write() as session:
        tracks = [{"storage_key": f"tracks/{submission}/track1.wav"}]
        session.add(Score(submission_id=submission, separator="s", estimator="e", tracks=tracks))
    found = reconcile(collection, grace_seconds=0)
    # Names are random, and so is their order.
    assert set(found.orphans) == {f"tracks/{submission}/track2.wav", "tracks/sub_removed/track1.wav"}
    assert "items/itm_1/0.wav" in keys(collection)


def test_what_is_missing_or_damaged_is_reported_and_nothing_is_changed(
    collection: Study, sender: Send, wav: Wav, caplog: pytest.LogCaptureFixture
) -> None:
    visitor = sender(collection)
    missing, damaged = (visitor.send(wav(seed)).json()["submission"] for seed in (0, 1))
    collection.storage.delete(f"recordings/{missing}.wav")
    put(collection.storage, f"recordings/{damaged}.wav", wav(2))
    with caplog.at_level(logging.INFO, "auriscope.study"):
        found = reconcile(collection)
    # Its size is right: only reading it shows the damage.
    assert (found.missing, found.damaged) == ([missing], [])
    # Requests may be logged too.
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["ERROR"]
    found = reconcile(collection, verify=True)
    assert (found.missing, found.damaged) == ([missing], [damaged])
    with collection.database.read() as session:
        assert len(session.scalars(select(Submission)).all()) == 2
        entry = session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc())).first()
        assert entry is not None
        assert (entry.action, entry.details["damaged"]) == ("reconcile", [damaged])


def test_the_command_says_what_it_found(collection: Study, sender: Send, wav: Wav) -> None:
    submission = sender(collection).send(wav()).json()["submission"]
    folder = str(collection.folder)
    done = CliRunner().invoke(app, ["study", "reconcile", folder, "--json", "--verify"])
    assert (done.exit_code, json.loads(done.stdout)["ok"]) == (0, True)
    os.unlink(Path(collection.settings.storage) / "recordings" / f"{submission}.wav")  # noqa: PTH108
    done = CliRunner().invoke(app, ["study", "reconcile", folder, "--json"])
    assert (done.exit_code, json.loads(done.stdout)["missing"]) == (1, [submission])
    assert f"{submission}: the file of this recording is missing" in done.stderr


def test_the_worker_command_does_what_is_waiting(collection: Study, sender: Send, wav: Wav) -> None:
    sender(collection).send(wav())
    done = CliRunner().invoke(app, ["study", "work", str(collection.folder), "--once", "--no-score", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["num_jobs"]) == (0, 1)
    assert Jobs(collection).num_queued() == 0
    with collection.database.read() as session:
        assert session.scalars(select(Submission)).one().checked_at is not None


def test_a_listening_study_has_no_work(listening: Study) -> None:
    done = CliRunner().invoke(app, ["study", "work", str(listening.folder), "--once"])
    assert done.exit_code == 1
    assert "nothing for a worker to do" in done.stderr
    done = CliRunner().invoke(app, ["study", "reconcile", str(listening.folder), "--json"])
    assert done.exit_code == 0
