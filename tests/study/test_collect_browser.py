"""A collection in a real browser, whose microphone hears a real WAV file: from consent to the stamp, nothing lost."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Callable, Iterator
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

COLLECTION: dict[str, Any] = {
    "kind": "collection",
    "name": "two-at-once",
    "title": "Two voices at once",
    "instructions": "Two people read at the same time.",
    "contact": "lab@example.org",
    "consent": {"version": "1", "text": "We keep your recording."},
    "sentences": [{"id": f"s{number}", "text": f"This is sentence {number}."} for number in range(4)],
    "submissions_per_session": 2,
}

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
    const { key, state, task, sha256, blob } = entry;
    return { key, state, task, sha256, digest, size: blob.size };
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


def record(page: Any, seconds: float = 1.5, meanwhile: Callable[[], None] | None = None) -> dict[str, Any]:
    """Record, and give what the browser keeps of it."""
    page.locator("#start, #again").locator("visible=true").click()
    page.locator("#stop").wait_for()
    if meanwhile is not None:
        meanwhile()
    page.wait_for_timeout(1000 * seconds)
    page.locator("#stop").click()
    page.locator("#listen").wait_for()
    (kept,) = page.evaluate(STORED)
    assert kept["digest"] == kept["sha256"]
    return dict(kept)


def until(page: Any, is_so: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


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
    """The highest normalised correlation of a quarter of a second with what the microphone played: the median.

    On a busy machine the browser's emulated microphone skips some samples, and what lies before and after no longer
    fits into one correlation.
    """
    recorded, rate = soundfile.read(io.BytesIO(recording))
    played, played_rate = soundfile.read(heard)
    # The browser's fake device plays the file over and over.
    played = soxr.resample(np.concatenate((played, played)), played_rate, rate)
    sums = np.concatenate(([0.0], np.cumsum(played**2)))
    size = rate // 4
    pieces = recorded[: len(recorded) // size * size].reshape(-1, size)
    energy = sums[size:] - sums[:-size]
    return float(
        np.median(
            [
                np.max(np.abs(correlate(played, piece, mode="valid")) / np.sqrt(energy * np.sum(piece**2)))
                for piece in pieces
            ]
        )
    )


@pytest.mark.parametrize("language", ["en", "fr"])
def test_from_consent_to_the_stamp(browsing: Any, collection: Study, spoken: Path, language: str) -> None:
    is_phone = language == "fr"
    page = browsing.page(spoken, phone=is_phone, locale=language)

    def look(name: str) -> None:
        # The pages are the same on every database.
        if collection.database.is_sqlite:
            browsing.look(page, f"collect-{'phone' if is_phone else 'desktop'}-{name}")

    with browsing.serve(collection) as address:
        page.goto(f"{address}/?PROLIFIC_PID=p1&STUDY_ID=st&SESSION_ID=se")
        assert page.locator("html").get_attribute("lang") == language
        look("1-welcome")
        consent(page, page.url)
        look("2-questionnaire")
        answer(page)
        page.locator("#allow").wait_for()
        look("3-check")
        page.locator("#allow").click()
        page.locator("#to-task:enabled").wait_for()
        look("4-level")
        page.locator("#to-task").click()
        kept = []
        for number in (1, 2):
            page.locator("#start").wait_for()
            assert f"{number}" in page.locator("#task-title").inner_text()
            if number == 1:
                look("5-sentences")
            kept.append(record(page, meanwhile=(lambda: look("5-recording")) if number == 1 else None))
            if number == 1:
                look("6-review")
            listen(page)
            if number == 1:
                look("7-heard")
            page.locator("#send").click()
        page.wait_for_url("**/done")
        look("8-done")
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


@contextmanager
def at_the_sentences(browsing: Any, study: Study, spoken: Path, **options: Any) -> Iterator[tuple[Any, Any]]:
    """A visitor of a study who has come as far as the first two sentences, and the cable to the server."""
    page = browsing.page(spoken, **options)
    with browsing.serve(study) as address, browsing.cable_to(address) as cable:
        consent(page, cable.address)
        answer(page)
        check_microphone(page)
        try:
            yield page, cable
        finally:
            page.context.close()


def send_and_lose_the_network(page: Any, cable: Any) -> None:
    """Send what was listened to, over a cable that is cut in the middle of it."""
    cable.cut_after(100_000)
    page.locator("#send").click()
    page.get_by_text("No connection").wait_for()
    assert cable.is_cut


def test_a_network_lost_in_the_middle_loses_nothing_over_a_reload(
    browsing: Any, collection: Study, spoken: Path
) -> None:
    with at_the_sentences(browsing, collection, spoken) as (page, cable):
        kept = record(page, 3)
        assert kept["size"] > 200_000
        listen(page)
        send_and_lose_the_network(page, cable)
        browsing.look(page, "collect-offline", expected="net::ERR")
        assert arrived(collection) == []
        (waiting,) = page.evaluate(STORED)
        assert (waiting["state"], waiting["digest"]) == ("sending", kept["digest"])
        # The page is gone; only the browser's database is left.
        context, address = page.context, page.url
        page.close()
        cable.mend()
        page = browsing.watched(context.new_page())
        page.goto(address)
        page.get_by_text("Recordings that have arrived: 1 of 2").wait_for()
        page.locator("#check").wait_for()
        assert page.evaluate(STORED) == []
    (submission,) = arrived(collection)
    data = bytes_of(collection, submission)
    assert hashlib.sha256(data).hexdigest() == kept["digest"]
    assert (submission.key, submission.task_id) == (kept["key"], kept["task"])
    assert likeness(data, spoken) > 0.99
    # Nothing is left of the first attempt.
    assert list(collection.storage.keys()) == [submission.storage_key]


def test_sending_goes_on_by_itself_when_the_network_is_back(browsing: Any, collection: Study, spoken: Path) -> None:
    with at_the_sentences(browsing, collection, spoken) as (page, cable):
        kept = record(page, 3)
        listen(page)
        send_and_lose_the_network(page, cable)
        # Attempts fail more and more rarely; when the browser is connected again, the next one is made at once.
        page.context.set_offline(True)
        page.get_by_text("as soon as there is one").wait_for()
        cable.mend()
        page.context.set_offline(False)
        page.get_by_text("Recordings that have arrived: 1 of 2").wait_for()
        page.locator("#start").wait_for()
    (submission,) = arrived(collection)
    assert hashlib.sha256(bytes_of(collection, submission)).hexdigest() == kept["digest"]


def test_a_lost_acknowledgement_is_asked_for_and_nothing_is_sent_twice(
    browsing: Any, open_study: Callable[..., Study], spoken: Path
) -> None:
    study = open_study(COLLECTION)
    with at_the_sentences(browsing, study, spoken) as (page, _):
        methods: list[str] = []

        def lose_the_first_answer(route: Any) -> None:
            methods.append(route.request.method)
            if len(methods) == 1:
                assert route.fetch().status == 201
                route.abort()
            else:
                route.continue_()

        page.route("**/api/submissions/*", lose_the_first_answer)
        record(page)
        listen(page)
        page.locator("#send").click()
        page.get_by_text("Recordings that have arrived: 1 of 2").wait_for()
        page.locator("#start").wait_for()
        assert methods == ["PUT", "GET"]
        assert page.evaluate(STORED) == []
    assert len(arrived(study)) == 1


def test_a_recording_that_was_not_sent_outlives_a_reload(
    browsing: Any, open_study: Callable[..., Study], spoken: Path
) -> None:
    study = open_study(COLLECTION)
    with at_the_sentences(browsing, study, spoken) as (page, _):
        first = record(page)
        second = record(page)
        assert second["digest"] != first["digest"]
        page.reload()
        page.get_by_text("has not been sent yet").wait_for()
        listen(page)
        page.locator("#send").click()
        page.get_by_text("Recordings that have arrived: 1 of 2").wait_for()
        (submission,) = arrived(study)
        assert submission.sha256 == second["digest"]
        # The next one needs the microphone again.
        page.locator("#allow").wait_for()


def test_missing_answers_are_shown(browsing: Any, open_study: Callable[..., Study], spoken: Path) -> None:
    study = open_study(COLLECTION)
    page = browsing.page(spoken, phone=True)
    with browsing.serve(study) as address:
        consent(page, address)
        page.locator("#language1").fill("Breton")
        # The browser would not let it pass; others may.
        page.locator("form").evaluate("(form) => { form.noValidate = true; }")
        page.locator("form button").click()
        page.get_by_text("These are still missing").wait_for()
        browsing.look(page, "collect-missing", expected="status of 422")
        assert page.locator("#language1").input_value() == "Breton"
        answer(page)
    page.context.close()


def test_the_keyboard_is_enough(browsing: Any, open_study: Callable[..., Study], spoken: Path) -> None:
    study = open_study({**COLLECTION, "submissions_per_session": 1})
    page = browsing.page(spoken)

    def reach(selector: str) -> None:
        for _ in range(40):
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{selector} is not reached")

    def press(selector: str, key: str = "Enter") -> None:
        reach(selector)
        page.keyboard.press(key)

    with browsing.serve(study) as address:
        page.goto(address)
        press("input[name=agree]", "Space")
        press("form button")
        page.wait_for_url("**/questionnaire")
        for number in (1, 2):
            press(f"input[name=gender{number}]", "ArrowDown")
            press(f"input[name=native{number}]", "Space")
            reach(f"#language{number}")
            page.keyboard.type("English")
        press("main form button")
        page.wait_for_url("**/record")
        page.locator("#allow").wait_for()
        press("#allow")
        page.locator("#to-task:enabled").wait_for()
        press("#to-task")
        page.locator("#start").wait_for()
        press("#start", "Space")
        # Where the next step is known, the keyboard is there already.
        page.locator("#stop:focus").wait_for()
        page.wait_for_timeout(1200)
        page.keyboard.press("Space")
        page.locator("#listen:focus").wait_for()
        page.keyboard.press("Enter")
        page.locator("#send:focus").wait_for()
        page.keyboard.press("Enter")
        page.wait_for_url("**/done")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        press("#copy")
        page.get_by_text("Copied.").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == page.locator("#stamp").inner_text()
        assert page.problems == []
    page.context.close()
    assert len(arrived(study)) == 1


def test_a_recording_ends_at_the_longest_time(browsing: Any, open_study: Callable[..., Study], spoken: Path) -> None:
    study = open_study({**COLLECTION, "max_seconds": 2.0})
    with at_the_sentences(browsing, study, spoken) as (page, _):
        page.locator("#start").click()
        page.get_by_text("The longest time was reached").wait_for()
        listen(page)
        page.locator("#send").click()
        page.get_by_text("Recordings that have arrived: 1 of 2").wait_for()
    (submission,) = arrived(study)
    assert submission.num_frames == 2 * submission.sample_rate


def test_what_is_too_short_is_recorded_again(browsing: Any, open_study: Callable[..., Study], spoken: Path) -> None:
    study = open_study({**COLLECTION, "min_seconds": 3.0})
    with at_the_sentences(browsing, study, spoken) as (page, _):
        record(page, 0.5)
        page.get_by_text("too short").wait_for()
        browsing.look(page, "collect-too-short")
        assert page.locator("#listen").is_disabled()
        assert page.locator("#send").is_disabled()
        record(page, 3.5)
        assert not page.get_by_text("too short").is_visible()
        listen(page)


def test_a_pair_that_was_recorded_in_another_window_gives_the_next_one(
    browsing: Any, open_study: Callable[..., Study], spoken: Path
) -> None:
    study = open_study(COLLECTION)
    with at_the_sentences(browsing, study, spoken) as (page, _):
        record(page)
        other = browsing.watched(page.context.new_page())
        other.goto(page.url)
        other.get_by_text("has not been sent yet").wait_for()
        listen(other)
        # The other window records the same sentences anew, under a key of its own.
        other.locator("#again").click()
        other.locator("#allow").click()
        other.locator("#to-task:enabled").click()
        record(other)
        listen(other)
        other.locator("#send").click()
        other.get_by_text("Recordings that have arrived: 1 of 2").wait_for()
        listen(page)
        page.locator("#send").click()
        page.get_by_text("has its recording already").wait_for()
        browsing.look(page, "collect-refused", expected="status of 409")
        page.locator("#refused-again").click()
        page.get_by_text("Recording 2 of 2").wait_for()
    assert len(arrived(study)) == 1


KEPT_ON = """
const settings = MediaStreamTrack.prototype.getSettings;
MediaStreamTrack.prototype.getSettings = function () {
  return { ...settings.call(this), noiseSuppression: true, autoGainControl: undefined };
};
"""


def test_processing_that_the_browser_keeps_on_is_told_and_stored(
    browsing: Any, open_study: Callable[..., Study], spoken: Path
) -> None:
    study = open_study(COLLECTION)
    page = browsing.page(spoken)
    page.add_init_script(KEPT_ON)
    with browsing.serve(study) as address:
        consent(page, address)
        answer(page)
        page.locator("#allow").click()
        page.get_by_text("Your browser changes the sound").wait_for()
        assert "(noise suppression)" in page.locator("#processed").inner_text()
        browsing.look(page, "collect-processed")
        page.locator("#to-task:enabled").click()
        page.locator("#start").wait_for()
    page.context.close()
    with study.database.read() as session:
        equipment = session.scalars(select(Session.equipment)).one()
    assert equipment is not None
    told = [equipment[name] for name in ("echo_cancellation", "noise_suppression", "auto_gain_control", "unprocessed")]
    assert told == [False, True, None, False]


def test_a_microphone_that_is_taken_away_is_said(browsing: Any, open_study: Callable[..., Study], spoken: Path) -> None:
    study = open_study(COLLECTION)
    page = browsing.page(spoken)
    page.add_init_script(
        "const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);"
        "navigator.mediaDevices.getUserMedia = async (asked) => (window.held = await open(asked));"
    )
    with browsing.serve(study) as address:
        consent(page, address)
        answer(page)
        check_microphone(page)
        page.locator("#start").click()
        page.locator("#stop").wait_for()
        # As when its plug is pulled.
        page.evaluate("held.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
        page.get_by_text("The microphone was interrupted").wait_for()
        assert page.evaluate(STORED) == []
        check_microphone(page)
        record(page)
    page.context.close()


def test_withdrawal_deletes_on_the_server_and_in_the_browser(
    browsing: Any, open_study: Callable[..., Study], spoken: Path
) -> None:
    study = open_study(COLLECTION)
    with at_the_sentences(browsing, study, spoken) as (page, _):
        record(page)
        listen(page)
        page.locator("#send").click()
        page.get_by_text("Recordings that have arrived: 1 of 2").wait_for()
        page.locator("#start").wait_for()
        assert len(list(study.storage.keys())) == 1
        record(page)
        page.get_by_role("link", name=re.compile("Stop taking part")).click()
        browsing.look(page, "collect-withdraw")
        page.get_by_role("button", name=re.compile("delete everything")).click()
        page.get_by_text("Everything has been deleted").wait_for()
        browsing.look(page, "collect-withdrawn")
        until(page, lambda: page.evaluate("indexedDB.databases()") == [])
        page.goto(page.url.replace("/withdraw", "/record"))
        page.get_by_text("Your session has ended").wait_for()
    assert list(study.storage.keys()) == []
    with study.database.read() as session:
        assert session.scalars(select(Session)).all() == []
        assert session.scalars(select(Submission)).all() == []


def test_a_visitor_without_a_microphone_is_told(browsing: Any, open_study: Callable[..., Study]) -> None:
    study = open_study(COLLECTION)
    page = browsing.page()
    with browsing.serve(study) as address:
        consent(page, address)
        answer(page)
        page.locator("#allow").click()
        page.get_by_text("not allowed to use the microphone").wait_for()
        browsing.look(page, "collect-denied")
    page.context.close()
