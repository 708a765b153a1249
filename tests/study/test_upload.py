"""Uploads: what is acknowledged is on the disk; what is refused leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from auriscope.study.schema import Session, Stamp, Submission
from auriscope.study.study import Study


def wav(seed: int = 0, seconds: float = 1.0, rate: int = 16_000, channels: int = 1, subtype: str = "PCM_16") -> bytes:
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, (round(seconds * rate), channels))
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def kept(study: Study) -> dict[str, bytes]:
    """All files of the storage, begun ones too."""
    return {
        path.relative_to(study.storage.root).as_posix(): path.read_bytes()
        for path in study.storage.root.rglob("*")
        if path.is_file()
    }


def num_rows(study: Study) -> int:
    with study.database.read() as session:
        return session.scalar(select(func.count()).select_from(Submission)) or 0


def test_a_recording_is_acknowledged_when_it_is_on_the_disk(collection: Study, sender: Callable[..., Any]) -> None:
    visitor, data, key = sender(collection), wav(), str(uuid4())
    details = '{"sampleRate": 48000, "echoCancellation": false, "label": "My phone", "listened": true, "x": [1]}'
    answer = visitor.send(data, key=key, x_recording_details=details)
    assert answer.status_code == 201
    receipt = answer.json()
    assert receipt == {
        "submission": receipt["submission"],
        "sha256": hashlib.sha256(data).hexdigest(),
        "num_bytes": len(data),
        "num_submissions": 1,
        "required": 2,
        "finished": False,
    }
    with collection.database.read() as session:
        submission = session.get_one(Submission, receipt["submission"])
    assert (submission.sample_rate, submission.num_channels, submission.num_frames) == (16_000, 1, 16_000)
    assert submission.details == {"sampleRate": 48000, "echoCancellation": False, "listened": True}
    assert kept(collection) == {submission.storage_key: data}
    again = visitor.client.get(f"/api/submissions/{key}", headers=visitor.headers)
    assert (again.status_code, again.json()) == (200, receipt)


def test_the_same_recording_sent_again_gets_the_same_answer(collection: Study, sender: Callable[..., Any]) -> None:
    visitor, data, key = sender(collection), wav(), str(uuid4())
    task = visitor.task()
    first, second = (visitor.send(data, key=key, task=task) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert list(kept(collection).values()) == [data]
    other = visitor.send(wav(1), key=key, task=task)
    assert (other.status_code, other.json()["error"]) == (409, "conflict")
    assert list(kept(collection).values()) == [data]


def test_the_last_recording_finishes_the_session_and_may_be_sent_again(
    collection: Study, sender: Callable[..., Any]
) -> None:
    visitor, key = sender(collection), str(uuid4())
    visitor.send(wav(0))
    last = visitor.send(wav(1), key=key)
    assert last.json() | {"submission": ""} == last.json() | {"submission": "", "num_submissions": 2, "finished": True}
    with collection.database.read() as session:
        assert session.scalars(select(Stamp)).one().subject_id == last.json()["submission"]
    again = visitor.send(wav(1), key=key)
    assert (again.status_code, again.json()) == (200, last.json())
    beyond = visitor.send(wav(2))
    assert (beyond.status_code, beyond.json()["error"]) == (409, "finished")
    assert len(kept(collection)) == 2


@pytest.mark.parametrize(
    ("data", "headers", "status", "error"),
    [
        (wav(), {"x_content_sha256": "0" * 64}, 422, "hash"),
        (wav(), {"content_type": "audio/webm"}, 415, "type"),
        (wav(), {"x_csrf_token": "forged"}, 403, "form"),
        (wav(), {"cookie": "auriscope_session=nobody"}, 403, "form"),
        (wav(), {"x_recording_details": "[1]"}, 422, "details"),
        (wav(), {"x_recording_details": "[" * 2000}, 422, "details"),
        (wav(), {"x_recording_details": "{" + " " * 3000 + "}"}, 422, "details"),
        (wav()[:-2], {}, 422, "cut_off"),
        (wav(seconds=0.5), {}, 422, "too_short"),
        (wav(seconds=31), {}, 422, "too_long"),
        (wav(rate=4_000, seconds=2), {}, 415, "type"),
        (wav(channels=3), {}, 415, "type"),
        (wav(subtype="FLOAT"), {}, 415, "type"),
        (wav(subtype="ULAW"), {}, 415, "type"),
        (b"", {}, 415, "type"),
        (b"RIFF", {}, 415, "type"),
        (b"ID3" + bytes(100), {}, 415, "type"),
        (bytes(20_000_001), {}, 413, "too_large"),
    ],
)
def test_what_is_refused_leaves_nothing(
    collection: Study, sender: Callable[..., Any], data: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    answer = sender(collection).send(data, **headers)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert kept(collection) == {}
    assert num_rows(collection) == 0


def test_a_body_of_unknown_length_ends_at_the_limit(collection: Study, sender: Callable[..., Any]) -> None:
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        yield wav(seconds=20)
        while given < 100_000_000:
            given += 1 << 20
            yield bytes(1 << 20)

    answer = sender(collection).send(endless())
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
    assert kept(collection) == {}


def test_a_task_gets_one_recording_and_only_its_own_session_sends_it(
    collection: Study, sender: Callable[..., Any]
) -> None:
    visitor, other = sender(collection), sender(collection)
    task = visitor.task()
    assert other.send(wav(), task=task).json()["error"] == "task"
    assert visitor.send(wav(), task=task).status_code == 201
    answer = visitor.send(wav(1), task=task)
    assert (answer.status_code, answer.json()["error"]) == (409, "task_done")
    assert len(kept(collection)) == 1


@pytest.mark.parametrize("same_key", [True, False])
def test_of_many_at_once_one_is_kept(collection: Study, sender: Callable[..., Any], same_key: bool) -> None:
    visitor, data, key = sender(collection), wav(), str(uuid4())
    task = visitor.task()
    answers = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(visitor.send(data, key=key if same_key else str(uuid4()), task=task))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == ([200] * 7 + [201] if same_key else [201] + [409] * 7)
    assert len({answer.json().get("submission") for answer in answers} - {None}) == 1
    assert list(kept(collection).values()) == [data]
    assert num_rows(collection) == 1


def test_a_session_that_was_removed_meanwhile_keeps_nothing(collection: Study, sender: Callable[..., Any]) -> None:
    visitor = sender(collection)
    task = visitor.task()

    def slowly() -> Iterator[bytes]:
        data = wav(seconds=20)
        yield data[:400_000]
        with collection.database.write() as session:
            session.get_one(Session, visitor.session_id).state = "removed"
        yield data[400_000:]

    digest = hashlib.sha256(wav(seconds=20)).hexdigest()
    answer = visitor.send(slowly(), task=task, x_content_sha256=digest)
    assert (answer.status_code, answer.json()["error"]) == (401, "session")
    assert kept(collection) == {}


def test_a_full_disk_is_said_and_the_recording_can_be_sent_again(
    collection: Study, sender: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    visitor, key, task = sender(collection), str(uuid4()), None
    task = visitor.task()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        answer = visitor.send(wav(), key=key, task=task)
    assert (answer.status_code, answer.json()["error"]) == (503, "storage")
    assert kept(collection) == {}
    assert visitor.send(wav(), key=key, task=task).status_code == 201


def test_a_listening_study_takes_no_recordings(listening: Study, sender: Callable[..., Any]) -> None:
    answer = sender(listening).send(wav())
    assert answer.status_code == 404


def test_the_acknowledgement_belongs_to_its_session(collection: Study, sender: Callable[..., Any]) -> None:
    visitor, other, key = sender(collection), sender(collection), str(uuid4())
    visitor.send(wav(), key=key)
    assert other.client.get(f"/api/submissions/{key}", headers=other.headers).status_code == 404


def test_the_server_says_what_it_takes(collection_client: TestClient) -> None:
    operation = collection_client.get("/openapi.json").json()["paths"]["/api/submissions/{key}"]["put"]
    assert set(operation["responses"]) >= {"200", "201", "401", "403", "409", "413", "415", "422"}
    assert "audio/wav" in operation["requestBody"]["content"]
