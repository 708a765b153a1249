"""What the tests of studies share: a folder with a campaign, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
import soundfile
import yaml
from fastapi.testclient import TestClient

from auriscope.study.ids import new_id
from auriscope.study.participants import Arrival, begin
from auriscope.study.schema import Submission, Task
from auriscope.study.stamps import finish_if_complete
from auriscope.study.storage import put
from auriscope.study.study import Study, write_secret
from auriscope.study.web.app import create_app
from auriscope.study.web.pages import SESSION_COOKIE, csrf_token

SENTENCES = [
    "The boat left the harbour before the sun came up.",
    "She wrote the answer on the back of an old ticket.",
    "Nobody could remember who had locked the garden gate.",
    "A cold wind blew the papers off the kitchen table.",
]

COLLECTION: dict[str, Any] = {
    "kind": "collection",
    "name": "two-at-once",
    "title": {"en": "Two voices at once", "fr": "Deux voix à la fois"},
    "languages": ["en", "fr"],
    "instructions": {"en": "Two people read at the same time.", "fr": "Deux personnes lisent en même temps."},
    "contact": "lab@example.org",
    "consent": {"version": "1", "text": {"en": "We keep your recording.", "fr": "Nous gardons l’enregistrement."}},
    "sentences": [{"id": f"s{number}", "text": text} for number, text in enumerate(SENTENCES)],
    "submissions_per_session": 2,
    "prolific": {"completion_code": "C1A2B3"},
    "mturk": {"reward": 1.5},
}

LISTENING: dict[str, Any] = {
    **{key: COLLECTION[key] for key in ("title", "languages", "instructions", "contact", "consent", "prolific")},
    "kind": "listening",
    "name": "how-good",
    "items_per_session": 4,
    "ratings_per_item": 2,
    "gold_per_session": 1,
    "traps_per_session": 1,
    "training_items": 1,
}

# Tests come from one address and do not wait.
SERVER = dict.fromkeys(
    ("requests_per_minute", "uploads_per_minute", "logins_per_minute", "begins_per_minute"), 1_000_000
)


def write_study(folder: Path, campaign: dict[str, Any], **server: Any) -> Path:
    """Write the folder of a study."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "campaign.yaml").write_text(yaml.safe_dump(campaign, allow_unicode=True), encoding="utf-8")
    (folder / "server.yaml").write_text(yaml.safe_dump({**SERVER, **server}), encoding="utf-8")
    write_secret(folder)
    return folder


def _postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Start a PostgreSQL server of our own and give its address without a database's name."""
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("needs the programs of a PostgreSQL server in /usr/lib/postgresql")
    folder = Path(tempfile.mkdtemp(prefix="auriscope-postgres-"))
    become: list[str] = []
    if os.geteuid() == 0:
        # The server refuses to run as root.
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run([*become, programs / "initdb", "-D", data, "-U", "study", "-A", "trust", "-E", "UTF8"], **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c max_connections=200"
    control = [*become, programs / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*control, "-l", folder / "log", "-o", options, "start"], **quiet)
    try:
        yield f"postgresql+psycopg://study@127.0.0.1:{port}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database: the test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    from sqlalchemy import create_engine, text

    server = request.getfixturevalue("postgres_server")
    name = f"study_{uuid4().hex}"
    engine = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{server}/{name}"


@pytest.fixture
def open_study(tmp_path: Path) -> Iterator[Callable[..., Study]]:
    """A function that opens a study in a folder of its own: ``open_study(COLLECTION, database=…)``."""
    opened: list[Study] = []

    def make(campaign: dict[str, Any], **server: Any) -> Study:
        study = Study.open(write_study(tmp_path / f"study{len(opened)}", campaign, **server))
        opened.append(study)
        return study

    yield make
    for study in opened:
        study.close()


@pytest.fixture
def collection(open_study: Callable[..., Study], database_url: str) -> Study:
    """A collection on each of the databases."""
    return open_study(COLLECTION, database=database_url)


@pytest.fixture
def listening(open_study: Callable[..., Study], database_url: str) -> Study:
    """A listening study on each of the databases."""
    return open_study(LISTENING, database=database_url)


@pytest.fixture
def collection_client(collection: Study) -> Iterator[TestClient]:
    """A visitor of the collection."""
    with TestClient(create_app(collection), follow_redirects=False) as client:
        yield client


ANSWERS = {
    "speakers": [
        {"gender": "female", "native": True, "native_language": "en"},
        {"gender": "male", "native": False, "native_language": "fr"},
    ],
    "nativeness": "one_of_each",
}


def recording(seed: int, *, seconds: float = 0.5, sample_rate: int = 16_000) -> bytes:
    """Give a WAV file of noise, another for every seed."""
    samples = np.random.default_rng(seed).integers(-9000, 9000, round(seconds * sample_rate), dtype=np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture
def wav() -> Callable[..., bytes]:
    """A function that gives the bytes of a recording of a second: ``wav(seed, seconds=1.0)``."""
    return lambda seed=0, seconds=1.0: recording(seed, seconds=seconds)


class Sender:
    """A visitor who has consented, and sends recordings through the pages' interface."""

    def __init__(self, study: Study, client: TestClient, worker: str | None = None) -> None:
        self.study, self.client = study, client
        with study.database.write() as session:
            visit, secret = begin(study, session, Arrival("prolific" if worker else "link", worker), "en")
        self.session_id = visit.id
        self.headers = {"cookie": f"{SESSION_COOKIE}={secret}", "x-csrf-token": csrf_token(study, secret)}
        self._position = count()

    def task(self) -> str:
        """Be shown the next two sentences."""
        with self.study.database.write() as session:
            pair = [{"id": f"s{number}", "text": SENTENCES[number]} for number in (0, 1)]
            task = Task(session_id=self.session_id, position=next(self._position), pair_id="s0-s1", sentences=pair)
            session.add(task)
        return task.id

    def send(self, data: Any, *, task: str | None = None, key: str | None = None, **headers: str) -> httpx.Response:
        """Send a recording, and give the answer; ``headers`` are changed so (``content_type="…"``)."""
        digest = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else "0" * 64
        sent = {**self.headers, "content-type": "audio/wav", "x-content-sha256": digest}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        address = f"/api/submissions/{key or uuid4()}"
        return self.client.put(address, params={"task": task or self.task()}, content=data, headers=sent)


@pytest.fixture
def sender() -> Iterator[Callable[..., Sender]]:
    """A function that gives a new visitor of a study: ``sender(study)``."""
    clients: dict[int, TestClient] = {}

    def make(study: Study, worker: str | None = None) -> Sender:
        if id(study) not in clients:
            clients[id(study)] = TestClient(create_app(study)).__enter__()
        return Sender(study, clients[id(study)], worker)

    yield make
    for client in clients.values():
        client.__exit__(None, None, None)


@pytest.fixture
def take_part() -> Callable[..., str]:
    """A function that lets somebody take part in a collection to the end, and gives their session's id.

    ``take_part(study, worker="W1", platform="mturk", details={"assignmentId": "A1"}, num_recordings=2)``; ``answers``
    are those of the questionnaire. The recordings lie in the storage, as acknowledged.
    """
    seeds = count()

    def work(
        study: Study,
        worker: str | None = None,
        platform: str = "prolific",
        details: dict[str, str] | None = None,
        num_recordings: int = 2,
        answers: dict[str, Any] | None = None,
    ) -> str:
        with study.database.write() as session:
            visit, _ = begin(study, session, Arrival(platform if worker else "link", worker, details), "en")
            visit.answers = ANSWERS if answers is None else answers
        for position in range(num_recordings):
            data = recording(next(seeds))
            with study.database.write() as session:
                pair = [{"id": f"s{number}", "text": SENTENCES[number]} for number in (position % 2, 2 + position % 2)]
                task = Task(
                    session_id=visit.id, position=position, pair_id="-".join(s["id"] for s in pair), sentences=pair
                )
                session.add(task)
                session.flush()
                submission = Submission(
                    id=new_id("sub"),
                    session_id=visit.id,
                    task_id=task.id,
                    key=str(uuid4()),
                    sha256=hashlib.sha256(data).hexdigest(),
                    num_bytes=len(data),
                    storage_key="",
                    sample_rate=16_000,
                    num_channels=1,
                    num_frames=8_000,
                )
                submission.storage_key = f"recordings/{submission.id}.wav"
                session.add(submission)
                session.flush()
                put(study.storage, submission.storage_key, data)
                finish_if_complete(study, session, visit, submission.id)
        return visit.id

    return work


@pytest.fixture(scope="module")
def browsing() -> Iterator[Any]:
    """A real browser and server: ``browsing.serve(study)``, ``browsing.page()``, ``browsing.look(page, name)``."""
    spec = importlib.util.spec_from_file_location("study_browser", Path(__file__).with_name("browser.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    browsing = module.Browsing()
    yield browsing
    browsing.close()


@pytest.fixture
def write_items() -> Callable[..., Path]:
    """A function that writes the manifest of a listening study, and its sounds, into the study's folder.

    ``write_items(study, num_mixtures=3, systems=("first", "second"), num_training=1, num_gold=2, num_traps=2)``: every
    item has a mixture and two estimates of ``seconds``. Gives the manifest.
    """

    def write(
        study: Study,
        num_mixtures: int = 3,
        systems: Sequence[str] = ("first", "second"),
        num_training: int = 1,
        num_gold: int = 2,
        num_traps: int = 2,
        seconds: float = 0.1,
    ) -> Path:
        rows = [
            {
                "name": f"{system}-{number}",
                "system": system,
                "mixture": f"mix-{number}.wav",
                "blind_si_snr_db": f"{number}.5;-1",
            }
            for number in range(num_mixtures)
            for system in systems
        ]
        extra = {"training": num_training, "gold": num_gold, "trap": num_traps}
        for role, how_many in extra.items():
            rows += [
                {"name": f"{role}-{number}", "system": "concealed", "mixture": f"{role}-{number}.wav", "role": role}
                | ({} if role == "training" else {"expected": "5;1-2"})
                for number in range(how_many)
            ]
        sounds = study.folder / "sounds"
        sounds.mkdir(exist_ok=True)
        for row in rows:
            for name in (row["mixture"], f"{row['name']}.a.wav", f"{row['name']}.b.wav"):
                seed = zlib.crc32(name.encode())
                (sounds / name).write_bytes(recording(seed, seconds=seconds, sample_rate=8_000))
            row["mixture"] = f"sounds/{row['mixture']}"
            row["estimates"] = f"sounds/{row['name']}.a.wav;sounds/{row['name']}.b.wav"
        path = study.folder / "items.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, ["name", "system", "mixture", "estimates", "role", "expected", "blind_si_snr_db"]
            )
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write
