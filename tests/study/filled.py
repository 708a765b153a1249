"""Studies full of believable work, for the tests of the administration and for looking at its pages."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import uuid4

import numpy as np
import soundfile
from fastapi.testclient import TestClient

from auriscope.study.accounts import hash_password
from auriscope.study.ids import new_id, now
from auriscope.study.participants import Arrival, begin
from auriscope.study.review import vote
from auriscope.study.schema import Account, Assignment, Item, Score, Submission, Task, Vote
from auriscope.study.storage import put
from auriscope.study.study import Study

RATE = 16_000
PASSWORD = "correct horse battery staple"
ROLES = {"olga": "owner", "rita": "reviewer", "rolf": "reviewer", "ruth": "reviewer", "ralf": "reader"}
SENTENCES = ("The boat left the harbour before the sun came up.", "Nobody could remember who had locked the gate.")
GENDERS = ("female", "male", "other", "undisclosed")
LANGUAGES = ("en", "fr", "sw", "hi", "de")


@cache
def _hashed() -> str:
    # Once: it costs as much as it shall.
    return hash_password(PASSWORD)


def add_accounts(study: Study) -> dict[str, str]:
    """Make one account for every name of ``ROLES`` and give their ids."""
    with study.database.write() as session:
        accounts = [Account(name=name, role=role, password_hash=_hashed()) for name, role in ROLES.items()]
        session.add_all(accounts)
        session.flush()
        return {account.name: account.id for account in accounts}


def log_in(client: TestClient, name: str) -> TestClient:
    """Log a client in through the form."""
    form = client.get("/admin/login").text
    answer = client.post("/admin/login", data={"name": name, "password": PASSWORD, "csrf": csrf_of(form)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin")
    return client


def csrf_of(html: str) -> str:
    """Give the token of a page's forms."""
    return html.partition('data-csrf="')[2].partition('"')[0]


def talk(rng: np.random.Generator, seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Make something with the rhythm and the formants of a voice."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(90, 230) * (1 + 0.06 * np.sin(2 * np.pi * rng.uniform(0.3, 0.9) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = sum(
        np.exp(-(((k * pitch - formant) / 250) ** 2)) * np.sin(k * phase)
        for k in range(1, 16)
        for formant in rng.uniform((300, 900, 2200), (800, 1900, 2900))
    )
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2.5, 4.5) * time + rng.uniform(0, 6)), 0, 1)
    return (0.12 * voice * syllables).astype(np.float32)


def wav(samples: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    """Give the bytes of a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples.clip(-1, 1), RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def fill_collection(
    study: Study,
    reviewers: Sequence[str] = (),
    *,
    num_sessions: int = 6,
    per_session: int = 2,
    seconds: float = 0.4,
    days: int = 12,
    seed: int = 0,
) -> list[str]:
    """Let people record and the worker listen, and let reviewers vote on about half; give the submissions' ids."""
    rng = np.random.default_rng(seed)
    ids: list[str] = []
    for number in range(num_sessions):
        started = now() - timedelta(days=float(rng.uniform(0, days)))
        with study.database.write() as session:
            visit, _ = begin(study, session, Arrival("prolific", f"WORKER{number}", {"STUDY_ID": "st"}), "en")
            visit.started_at, visit.state = started, ("finished", "finished", "open", "removed")[number % 4]
            native = [bool(rng.integers(2)) for _ in "ab"]
            nativeness = {2: "both_native", 1: "one_of_each", 0: "both_non_native"}[sum(native)]
            speakers = [
                {
                    "gender": str(rng.choice(GENDERS)),
                    "native": is_native,
                    "native_language": "en" if is_native else str(rng.choice(LANGUAGES)),
                }
                for is_native in native
            ]
            visit.answers = {"speakers": speakers, "nativeness": nativeness}
        ids += [
            _submission(study, rng, visit.id, position, seconds, started + timedelta(minutes=3 * position))
            for position in range(per_session)
        ]
    for place, name in enumerate(ids[: len(ids) // 2]):
        with study.database.write() as session:
            for reviewer in reviewers[: 1 + place % 2]:
                choice = "bad" if place % 4 == 3 else "good"
                vote(session, reviewer, name, choice, ["noise"] if choice == "bad" else [])
    return ids


def _submission(study: Study, rng: Any, visit: str, position: int, seconds: float, received: Any) -> str:
    voices = [talk(rng, seconds), talk(rng, seconds) * rng.uniform(0.4, 1.0)]
    data, name = wav(voices[0] + voices[1]), new_id("sub")
    tracks = []
    for index, voice in enumerate(voices):
        key = f"tracks/{name}/track{index + 1}.wav"
        put(study.storage, key, wav(voice))
        score = {"blind_si_snr_db": float(rng.normal(7, 4)), "expected_error_db": 2.1, "in_range": index == 0}
        tracks.append({"storage_key": key, **score})
    put(study.storage, f"recordings/{name}.wav", data)
    with study.database.write() as session:
        sentences = [{"id": f"s{index}", "text": text} for index, text in enumerate(SENTENCES)]
        task = Task(session_id=visit, position=position, pair_id="s0-s1", sentences=sentences)
        session.add(task)
        session.flush()
        submission = Submission(
            id=name,
            session_id=visit,
            task_id=task.id,
            key=str(uuid4()),
            sha256=hashlib.sha256(data).hexdigest(),
            num_bytes=len(data),
            storage_key=f"recordings/{name}.wav",
            sample_rate=RATE,
            num_channels=1,
            num_frames=len(voices[0]),
            details={"echoCancellation": False, "noiseSuppression": False, "sampleRate": 48_000, "channelCount": 1},
            received_at=received,
            checks=findings(rng),
            checked_at=received,
        )
        session.add(submission)
        session.flush()
        session.add(Score(submission_id=name, separator="separation/dprnn.mini", estimator="q", tracks=tracks))
    return name


def findings(rng: Any) -> dict[str, Any]:
    """Make up what the automatic checks found."""
    checks: dict[str, Any] = {
        "silence": {"ok": True, "value": float(rng.uniform(-40, -20)), "limit": -50.0},
        "clipping": {"ok": bool(rng.random() < 0.85), "value": float(rng.uniform(0, 0.01)), "limit": 0.001},
        "duration": {"ok": True, "value": 4.2, "limit": [1.0, 30.0]},
        "one_voice": {"ok": bool(rng.random() < 0.8), "value": float(rng.uniform(0, 1)), "limit": 0.8},
        "level_balance": {"ok": True, "value": float(rng.uniform(0, 9)), "limit": 12.0},
        "duplicate": {"ok": True, "value": None, "limit": None},
    }
    return {**checks, "ok": all(check["ok"] for check in checks.values())}


def fill_listening(study: Study, *, num_raters: int = 5, num_items: int = 4, seed: int = 0) -> None:
    """Let raters vote on the items of two systems, one of them better."""
    rng = np.random.default_rng(seed)
    with study.database.write() as session:
        items = [
            Item(
                name=f"clip{number}-{system}",
                mixture=f"clip{number}",
                system=system,
                parts=[{"label": "source 1", "storage_key": ""}],
            )
            for number in range(num_items)
            for system in ("plain", "better")
        ]
        session.add_all(items)
        session.flush()
        # They all begin before the first has voted: later there might be nothing left for them.
        visits = [begin(study, session, Arrival("prolific", f"WORKER{rater}"), "en")[0] for rater in range(num_raters)]
        for rater, visit in enumerate(visits):
            visit.answers = {"hearing": "normal", "device": "headphones", "native_language": "en"}
            visit.state = "finished" if rater % 2 else "open"
            for position, item in enumerate(items[: len(items) - rater % 3]):
                given = Assignment(session_id=visit.id, item_id=item.id, position=position)
                given.answered_at, given.seconds_on_page = now(), float(rng.uniform(5, 30))
                session.add(given)
                session.flush()
                score = int(np.clip(rng.normal(4 if item.system == "better" else 2.5, 0.8), 1, 5))
                session.add(Vote(assignment_id=given.id, part=0, score=score))
