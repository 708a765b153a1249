"""A collection in a real browser, whose microphone hears a real WAV file: from consent to the stamp, and nothing is lost."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from scipy.signal import correlate
from sqlalchemy import select

from auriscope.study import stamps
from auriscope.study.schema import Session, Submission, Task
from auriscope.study.study import Study

RATE = 48_000

# What the browser itself holds of the recordings, with the digest of the bytes as this test reckons it.
STORED = """
async () => {
  const database = await new Promise((resolve, reject) => {
    const request = indexedDB.open("auriscope-study");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const entries = await new Promise((resolve) => {
    const request = database.transaction("recordings").objectStore("recordings").getAll();
    request.onsuccess = () => resolve(request.result);
  });
  database.close();
  return Promise.all(entries.map(async (entry) => {
    const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", await entry.blob.arrayBuffer()));
    const digest = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return { key: entry.key, state: entry.state, task: entry.task, sha256: entry.sha256, digest, size: entry.blob.size };
  }));
}
"""


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone hears: noise with the loudness of syllables, never the same twice."""
    rng = np.random.default_rng(4)
    seconds = 30
    syllables = np.repeat(rng.uniform(0.02, 0.3, 8 * seconds), RATE // 8)
    waveform = syllables * rng.uniform(-1, 1, RATE * seconds)
    path = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    soundfile.write(path, waveform, RATE, subtype="PCM_16")
    return path


def consent(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_role("checkbox").check()
    page.locator("form button").click()
    page.wait_for_url("**/questionnaire")


def answer(page: Any) -> None:
    for name, value in (("gender1", "female"), ("native1", "yes"), ("gender2", "male"), ("native2", "no")):
        page.locator(f"input[name={name}][value={value}]").check()
    page.locator("#language1").fill("English")
    page.locator("#language2").fill("French")
    page.locator("form button").click()
    page.wait_for_url("**/record")


def check_microphone(page: Any) -> None:
    page.locator("#allow").click()
    page.locator("#to-task:enabled").click()
    page.locator("#start").wait_for()


def record(page: Any, seconds: float = 1.5) -> dict[str, Any]:
    """Record, and give what the browser keeps of it."""
    page.locator("#start, #again").locator("visible=true").click()
    page.locator("#stop").wait_for()
    page.wait_for_timeout(1000 * seconds)
    page.locator("#stop").click()
    page.locator("#listen").wait_for()
    (kept,) = page.evaluate(STORED)
    assert kept["digest"] == kept["sha256"]
    return dict(kept)


def listen(page: Any) -> None:
    assert page.locator("#send").is_disabled()
    page.locator("#listen").click()
    page.locator("#send:enabled").wait_for()


def arrived(study: Study) -> list[Submission]:
    with study.database.read() as session:
        return list(session.scalars(select(Submission).order_by(Submission.received_at)))


def bytes_of(study: Study, submission: Submission) -> bytes:
    with study.storage.open(submission.storage_key) as file:
        return file.read()


def likeness(recording: bytes, heard: Path) -> float:
    """The highest normalised correlation of a recording with what was played to the microphone."""
    recorded, rate = soundfile.read(io.BytesIO(recording))
    played, played_rate = soundfile.read(heard)
    # The browser's fake device plays the file over and over.
    played = soxr.resample(np.concatenate((played, played)), played_rate, rate)
    products = correlate(played, recorded, mode="valid")
    energy = np.convolve(played**2, np.ones(len(recorded)), mode="valid") if len(recorded) < 100 else None
    if energy is None:
        sums = np.concatenate(([0.0], np.cumsum(played**2)))
        energy = sums[len(recorded) :] - sums[: -len(recorded)]
    return float(np.max(np.abs(products) / np.sqrt(energy * np.sum(recorded**2))))


@pytest.mark.parametrize("language", ["en", "fr"])
def test_from_consent_to_the_stamp(browsing: Any, collection: Study, spoken: Path, language: str) -> None:
    is_phone = language == "fr"
    page = browsing.page(spoken, phone=is_phone, locale=language)
    name = f"collect-{'phone' if is_phone else 'desktop'}-"
    with browsing.serve(collection) as address:
        page.goto(f"{address}/?PROLIFIC_PID=p1&STUDY_ID=st&SESSION_ID=se")
        assert page.locator("html").get_attribute("lang") == language
        browsing.look(page, name + "1-welcome")
        consent(page, page.url)
        browsing.look(page, name + "2-questionnaire")
        answer(page)
        page.locator("#allow").wait_for()
        browsing.look(page, name + "3-check")
        page.locator("#allow").click()
        page.locator("#to-task:enabled").wait_for()
        browsing.look(page, name + "4-level")
        page.locator("#to-task").click()
        kept = []
        for number in (1, 2):
            page.locator("#start").wait_for()
            assert f"{number}" in page.locator("#task-title").inner_text()
            if number == 1:
                browsing.look(page, name + "5-sentences")
            kept.append(record(page))
            if number == 1:
                browsing.look(page, name + "6-review")
            listen(page)
            if number == 1:
                browsing.look(page, name + "7-heard")
            page.locator("#send").click()
        page.wait_for_url("**/done")
        browsing.look(page, name + "8-done")
        stamp = page.locator("#stamp").inner_text()
        code = page.locator("#code").inner_text()
        link = page.get_by_role("link", name=re.compile("Prolific")).get_attribute("href")
        count = page.locator(".count").inner_text()
    page.context.close()
    submissions = arrived(collection)
    for submission, entry in zip(submissions, kept, strict=True):
        data = bytes_of(collection, submission)
        assert hashlib.sha256(data).hexdigest() == entry["digest"] == submission.sha256
        assert len(data) == entry["size"]
        info = soundfile.info(io.BytesIO(data))
        assert (info.format, info.subtype, info.channels) == ("WAV", "PCM_16", 1)
        assert info.duration > 1.4
        assert likeness(data, spoken) > 0.99
        assert submission.details["listened"] is True
    with collection.database.read() as session:
        visit = session.scalars(select(Session)).one()
        assert stamps.verify(collection, session, stamp).ok
        tasks = session.scalars(select(Task).order_by(Task.position)).all()
    assert [submission.task_id for submission in submissions] == [task.id for task in tasks]
    assert code == visit.contributor_id
    assert link == "https://app.prolific.com/submissions/complete?cc=C1A2B3"
    assert "2" in count
    assert visit.equipment is not None
    assert visit.equipment["unprocessed"] is True
    assert visit.equipment["sample_rate"] == info.samplerate
