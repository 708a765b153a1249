"""Storage: a folder and an S3-compatible server behave alike, and nothing half-written is ever seen."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from auriscope.errors import AuriscopeError
from auriscope.study.jobs import Jobs
from auriscope.study.reconcile import reconcile
from auriscope.study.schema import Submission
from auriscope.study.storage import FolderStorage, ObjectStorage, Storage, checked, open_storage, put
from auriscope.study.study import Study

from .conftest import COLLECTION


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Start a server that speaks S3's protocol, and give its address: one for all, as clients remember it."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty storage."""
    if request.param == "folder":
        return str(tmp_path / "files")
    server = request.getfixturevalue("s3_server")
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import boto3

    bucket = f"study-{uuid4().hex}"
    boto3.client("s3", endpoint_url=server).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/files"


@pytest.fixture
def storage(storage_url: str) -> Storage:
    return open_storage(storage_url)


def test_what_is_kept_is_there_whole(storage: Storage) -> None:
    data = os.urandom(3_000_000)
    aside = storage.aside("recordings/sub_1.wav")
    for start in range(0, len(data), 400_000):
        aside.write(data[start : start + 400_000])
        assert not storage.exists("recordings/sub_1.wav")
    aside.keep()
    aside.discard()
    assert storage.exists("recordings/sub_1.wav")
    assert storage.size("recordings/sub_1.wav") == len(data)
    with storage.open("recordings/sub_1.wav") as file:
        assert file.read() == data
        file.seek(1_000_000)
        assert file.read(10) == data[1_000_000:1_000_010]
    with storage.local("recordings/sub_1.wav") as path:
        assert path.read_bytes() == data
        assert path.suffix == ".wav"


def test_what_is_discarded_is_not(storage: Storage) -> None:
    aside = storage.aside("recordings/sub_1.wav")
    aside.write(b"data")
    aside.discard()
    assert list(storage.keys()) == []
    assert storage.sweep(0) == 0


def test_files_are_listed_and_deleted(storage: Storage) -> None:
    for key in ("recordings/b.wav", "recordings/a.wav", "tracks/a/track1.wav"):
        put(storage, key, key.encode())
    assert list(storage.keys()) == ["recordings/a.wav", "recordings/b.wav", "tracks/a/track1.wav"]
    assert list(storage.keys("tracks/")) == ["tracks/a/track1.wav"]
    entry = next(iter(storage.entries("recordings/a")))
    assert (entry.key, entry.num_bytes) == ("recordings/a.wav", 16)
    assert abs(entry.written_at - time.time()) < 60
    storage.delete("recordings/a.wav")
    storage.delete("recordings/a.wav")
    assert not storage.exists("recordings/a.wav")
    put(storage, "recordings/b.wav", b"new")
    with storage.open("recordings/b.wav") as file:
        assert file.read() == b"new"


def test_what_is_not_there_is_said(storage: Storage) -> None:
    with pytest.raises(AuriscopeError, match="nothing"):
        storage.open("recordings/nothing.wav").read()
    with pytest.raises(AuriscopeError, match="nothing"), storage.local("recordings/nothing.wav"):
        pass
    assert list(storage.keys()) == []


@pytest.mark.parametrize("key", ["../a", "/a", "a/../b", "A", "a//b", "", "a b", "a/.b", "x" * 201])
def test_other_keys_than_ours_are_refused(storage: Storage, key: str) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        storage.exists(key)
    with pytest.raises(ValueError, match="not a storage key"):
        storage.aside(key)


def test_keys_are_checked() -> None:
    assert checked("items/itm_1/0.wav") == "items/itm_1/0.wav"


def test_two_files_of_one_key_do_not_mix(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    first, second = storage.aside("a.wav"), storage.aside("a.wav")
    first.write(b"first")
    second.write(b"second")
    second.keep()
    first.keep()
    assert storage.path("a.wav").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_begun_files_are_swept_when_they_are_old(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    storage.aside("a.wav").write(b"begun")
    assert storage.sweep(3600) == 0
    assert storage.sweep(0) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_cannot_be_used_is_said() -> None:
    with pytest.raises(AuriscopeError, match="nowhere"):
        ObjectStorage("nowhere://bucket")


def test_an_upload_is_kept_checked_and_reconciled_everywhere(
    open_study: Callable[..., Study],
    storage_url: str,
    database_url: str,
    sender: Callable[..., Any],
    wav: Callable[..., bytes],
) -> None:
    study = open_study(COLLECTION, storage=storage_url, database=database_url)
    visitor, data, key = sender(study), wav(3), str(uuid4())
    task = visitor.task()
    answer = visitor.send(data, key=key, task=task)
    assert answer.status_code == 201, answer.text
    assert visitor.send(data, key=key, task=task).json() == answer.json()
    assert visitor.send(wav(4), x_content_sha256="0" * 64).status_code == 422
    with study.database.read() as session:
        (submission,) = session.scalars(select(Submission)).all()
    assert list(study.storage.keys()) == [submission.storage_key]
    with study.storage.open(submission.storage_key) as file:
        assert hashlib.sha256(file.read()).hexdigest() == answer.json()["sha256"]
    Jobs(study).drain()
    with study.database.read() as session:
        assert session.get_one(Submission, submission.id).checked_at is not None
    put(study.storage, "recordings/sub_orphan.wav", data)
    assert reconcile(study, verify=True).orphans == []
    found = reconcile(study, grace_seconds=0, verify=True)
    assert (found.orphans, found.ok) == (["recordings/sub_orphan.wav"], True)
    study.storage.delete(submission.storage_key)
    assert reconcile(study).missing == [submission.id]


def test_an_object_storage_that_does_not_answer_is_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    config = {"retries": {"total_max_attempts": 1}, "connect_timeout": 1}
    storage = ObjectStorage("s3://bucket", endpoint_url=nobody, config_kwargs=config)
    aside = storage.aside("recordings/sub_a.wav")
    aside.write(b"bytes")
    with pytest.raises(OSError, match="endpoint"):
        aside.keep()
    aside.discard()
