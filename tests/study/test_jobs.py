"""The worker: every recording is checked and scored once, and one that kills the worker is left alone after a while."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sqlalchemy import select

from auriscope.study import heartbeat
from auriscope.study.jobs import MAX_ATTEMPTS, Jobs, ScoreFacts, TrackScore, check_submission, score_submission
from auriscope.study.reconcile import reconcile
from auriscope.study.schema import Score, Submission, Task
from auriscope.study.storage import put
from auriscope.study.study import Study


def submissions(study: Study) -> list[Submission]:
    with study.database.read() as session:
        return list(session.scalars(select(Submission).order_by(Submission.received_at)))


def halves(recording: Path, folder: Path) -> ScoreFacts:
    """A scorer that needs no network: the two tracks are the recording at two levels."""
    samples, rate = soundfile.read(recording, dtype="float32")
    tracks = []
    for number, gain in enumerate((0.5, 0.05), start=1):
        path = folder / f"track{number}.wav"
        soundfile.write(path, gain * samples, rate, subtype="FLOAT")
        tracks.append(TrackScore(path, 4.5, 2.0, True))
    return ScoreFacts("separation/test", "quality/test", tracks)


def test_an_upload_is_checked_and_scored(
    collection: Study, sender: Callable[..., Any], wav: Callable[..., bytes]
) -> None:
    sender(collection).send(wav(0))
    jobs = Jobs(collection, halves)
    assert jobs.num_queued() == 1
    assert jobs.drain() == 2
    (submission,) = submissions(collection)
    assert submission.checks is not None
    assert submission.checked_at is not None
    assert submission.checks["duration"]["value"] == 1.0
    assert submission.checks["level_balance"] == {"ok": False, "value": 20.0, "limit": 15.0}
    with collection.database.read() as session:
        score = session.get_one(Score, submission.id)
    assert [track["blind_si_snr_db"] for track in score.tracks] == [4.5, 4.5]
    with collection.storage.local(score.tracks[1]["storage_key"]) as path:
        assert soundfile.info(path).frames == 16_000


def test_doing_a_job_again_changes_nothing(
    collection: Study, sender: Callable[..., Any], wav: Callable[..., bytes]
) -> None:
    sender(collection).send(wav(0))
    (submission,) = submissions(collection)
    jobs = Jobs(collection, halves)
    for _ in range(3):
        jobs.check(submission.id)
    jobs.drain()
    (first,) = submissions(collection)
    check_submission(collection, submission.id)
    score_submission(collection, submission.id, halves)
    (second,) = submissions(collection)
    assert (first.checks, first.checked_at, first.checks_failed) == (second.checks, second.checked_at, 0)
    assert len(list(collection.storage.keys("tracks/"))) == 2


def test_a_copy_of_a_recording_is_found(
    collection: Study, sender: Callable[..., Any], wav: Callable[..., bytes]
) -> None:
    visitor = sender(collection)
    visitor.send(wav(0))
    visitor.send(wav(0))
    Jobs(collection).drain()
    first, second = submissions(collection)
    assert first.checks is not None
    assert second.checks is not None
    assert first.checks["duplicate"]["ok"] is True
    assert second.checks["duplicate"] == {"ok": False, "value": 1.0, "limit": 0.1, "of": first.id, "kind": "bytes"}


def test_what_cannot_be_decoded_is_a_finding(
    collection: Study, sender: Callable[..., Any], wav: Callable[..., bytes]
) -> None:
    # Its head passes, but the file was damaged since.
    receipt = sender(collection).send(wav(0)).json()
    put(collection.storage, f"recordings/{receipt['submission']}.wav", b"RIFF" + bytes(60))
    Jobs(collection, halves).drain()
    (submission,) = submissions(collection)
    assert submission.checks is not None
    assert submission.checks["ok"] is False
    assert submission.checks["decoding"]["ok"] is False
    with collection.database.read() as session:
        assert session.scalars(select(Score)).all() == []


def test_a_job_that_fails_is_tried_three_times(
    collection: Study, sender: Callable[..., Any], wav: Callable[..., bytes]
) -> None:
    sender(collection).send(wav(0))
    attempts = []

    def broken(recording: Path, folder: Path) -> ScoreFacts:
        attempts.append(recording)
        raise RuntimeError("no model")

    jobs = Jobs(collection, broken)
    jobs.drain()
    (submission,) = submissions(collection)
    for _ in range(MAX_ATTEMPTS + 2):
        jobs.score(submission.id)
        jobs.drain()
    assert len(attempts) == MAX_ATTEMPTS
    (submission,) = submissions(collection)
    assert submission.scoring_failed == MAX_ATTEMPTS
    assert submission.checked_at is not None
    assert list(collection.storage.keys("tracks/")) == []


def test_a_job_that_kills_the_worker_is_counted(
    collection: Study, sender: Callable[..., Any], wav: Callable[..., bytes]
) -> None:
    sender(collection).send(wav(0))
    (submission,) = submissions(collection)
    code = (
        "import os, signal, sys; from auriscope.study import jobs; from auriscope.study.study import Study\n"
        "jobs.decode = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "jobs.check_submission(Study.open(sys.argv[1]), sys.argv[2])"
    )
    for attempt in range(1, MAX_ATTEMPTS + 1):
        done = subprocess.run([sys.executable, "-c", code, collection.folder, submission.id], check=False)
        assert done.returncode == -signal.SIGKILL
        assert submissions(collection)[0].checks_failed == attempt
    done = subprocess.run([sys.executable, "-c", code, collection.folder, submission.id], check=False)
    assert done.returncode == 0


def test_a_removed_contributor_keeps_no_tracks(
    collection: Study, sender: Callable[..., Any], wav: Callable[..., bytes]
) -> None:
    sender(collection).send(wav(0))
    (submission,) = submissions(collection)
    check_submission(collection, submission.id)

    def slow(recording: Path, folder: Path) -> ScoreFacts:
        facts = halves(recording, folder)
        with collection.database.write() as session:
            session.delete(session.get_one(Submission, submission.id))
        return facts

    score_submission(collection, submission.id, slow)
    assert list(collection.storage.keys("tracks/")) == []


def test_messages_that_nobody_understands_do_not_stop_the_worker(
    collection: Study, sender: Callable[..., Any], wav: Callable[..., bytes]
) -> None:
    jobs = Jobs(collection)
    jobs._queue.storage.enqueue(b"\x80\x05cos\nsystem\n.")
    jobs._queue.storage.enqueue(b'["1", "unknown"]')
    sender(collection).send(wav(0))
    jobs.drain()
    assert submissions(collection)[0].checked_at is not None


def test_a_worker_works_until_it_is_stopped_and_says_that_it_lives(
    collection: Study, sender: Callable[..., Any], wav: Callable[..., bytes]
) -> None:
    stop = threading.Event()
    worker = threading.Thread(target=Jobs(collection, halves).work, args=(stop,))
    worker.start()
    try:
        sender(collection).send(wav(0))
        deadline = time.monotonic() + 60
        while submissions(collection)[0].checked_at is None and time.monotonic() < deadline:
            stop.wait(0.05)
        assert submissions(collection)[0].checked_at is not None
        with collection.database.read() as session:
            assert heartbeat.is_alive(session)
    finally:
        stop.set()
        worker.join(60)
    assert not worker.is_alive()


def test_the_scorer_of_the_command_separates_and_judges(tmp_path: Path) -> None:
    from auriscope.cli.study.work import make_scorer

    random = np.random.default_rng(0)
    path = tmp_path / "recording.wav"
    soundfile.write(path, random.normal(0, 0.1, 32_000), 16_000)
    facts = make_scorer(None, None)(path, tmp_path / "tracks")
    assert [track.path.name for track in facts.tracks] == ["track1.wav", "track2.wav"]
    assert all(soundfile.info(track.path).frames == 32_000 for track in facts.tracks)
    assert facts.separator.startswith("separation/")
    assert facts.estimator.startswith("quality/")


def test_what_was_said_is_compared_with_what_was_to_be_read(
    collection: Study, sender: Callable[..., Any], wav: Callable[..., bytes]
) -> None:
    visitor = sender(collection)
    visitor.send(wav(0))
    visitor.send(wav(1))
    first, second = submissions(collection)
    with collection.database.read() as session:
        wanted = " ".join(part["text"] for part in session.get_one(Task, first.task_id).sentences)
    check_submission(collection, first.id, lambda decoded: wanted.upper())
    check_submission(collection, second.id, lambda decoded: "")
    right, wrong = submissions(collection)
    assert right.checks is not None
    assert wrong.checks is not None
    assert right.checks["prompts"] == {"ok": True, "value": 1.0, "limit": 0.3}
    assert wrong.checks["prompts"] == {"ok": False, "value": 0.0, "limit": 0.3}


@pytest.mark.parametrize("separator", [None, "none"])
def test_the_transcriber_of_the_command_hears_the_talkers(tmp_path: Path, separator: str | None) -> None:
    import torch

    from auriscope.cli.study.work import make_transcriber
    from auriscope.data.synthetic import voice
    from auriscope.recognition import ConformerCTC
    from auriscope.study.decode import decode

    torch.manual_seed(0)
    model = ConformerCTC.from_config(ConformerCTC.Tiny)
    model.head.weight.data.mul_(40.0)
    model.save_pretrained(tmp_path / "recognizer")
    soundfile.write(tmp_path / "recording.wav", voice(1, 0, seconds=2.0, sample_rate=16_000), 16_000)
    text = make_transcriber(str(tmp_path / "recognizer"), separator)(decode(tmp_path / "recording.wav", max_seconds=5))
    assert text.strip()


def test_forgotten_jobs_are_found_again(
    collection: Study, sender: Callable[..., Any], wav: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from auriscope.study import reconcile as library

    sender(collection).send(wav(0))
    jobs = Jobs(collection, halves)
    jobs._queue.flush()
    assert reconcile(collection, jobs=jobs).enqueued == 0  # it is too young to be forgotten
    monkeypatch.setattr(library, "_SECONDS_BEFORE_FORGOTTEN", 0)
    assert reconcile(collection, jobs=jobs).enqueued == 1
    assert reconcile(collection, jobs=jobs).enqueued == 0  # it is queued now
    assert jobs.drain() == 2
    assert reconcile(collection, jobs=jobs).enqueued == 0
