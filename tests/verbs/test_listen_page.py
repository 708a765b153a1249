"""The page: complete, self-contained, safe with any file name, accessible, and alive in a browser."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import importlib.util
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auriscope.recognition.words import Word
from auriscope.signal.files import write
from auriscope.verbs.listen import report as listen
from auriscope.verbs.listen.report import LINE_WORDS, MAX_TURN_ROWS, MAX_WORDS, NUM_HUES, write_page
from auriscope.verbs.listen.results import ListenResult, ListenTrack, Turn
from auriscope.verbs.listen.sound import encode_opus
from auriscope.verbs.listen.survey import survey

CHROMIUM = Path("/usr/bin/chromium")
AXE = gzip.decompress((Path(__file__).parents[1] / "vendor" / "axe-core" / "axe.min.js.gz").read_bytes()).decode()

BESIDE = ("recording.opus", "track1.opus", "track2.opus")

needs_browser = pytest.mark.skipif(
    not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None,
    reason="needs /usr/bin/chromium and playwright",
)


def make_page(
    folder: Path,
    *,
    name: str = "talk.wav",
    seconds: float = 3.0,
    amplitude: float = 0.2,
    enhanced: bool = False,
    **changes: Any,
) -> ListenResult:
    """Write a page about two noises that take turns."""
    folder.mkdir(parents=True, exist_ok=True)
    rate, rng = 16000, np.random.default_rng(0)
    noise = (amplitude * rng.standard_normal((2, round(seconds * rate)))).clip(-0.9, 0.9).astype(np.float32) / 2
    noise[0, rate * 2 :] = 0
    noise[1, :rate] = 0
    tracks = []
    for index, track in enumerate(noise):
        path = folder / f"talker-{index + 1}.wav"
        write(path, track, rate)
        turns = (Turn(float(index), float(index) + 1.5),)
        tracks.append(ListenTrack(str(path), 8.3 - 6 * index, 1.5, index == 0, None, turns, -20.0, -3.0))
    recording = folder / "input.wav"
    write(recording, noise.sum(0), rate)
    heard = [noise.sum(0), *noise]
    if enhanced:
        write(folder / "enhanced.wav", noise.sum(0), rate)
        changes = {"enhanced": str(folder / "enhanced.wav"), "enhancer": "separation/some.enhancer", **changes}
        heard.append(noise.sum(0))
    surveys = [survey([signal], rate, len(signal)) for signal in heard]
    result = ListenResult(
        input=f"somewhere/{name}",
        report=str(folder / "report.html"),
        num_speakers=2,
        at_least=False,
        tracks=tuple(tracks),
        warnings=("A warning.",),
        sample_rate=rate,
        num_channels=1,
        duration_seconds=seconds,
        rms_dbfs=-20.0,
        peak_dbfs=-3.0,
        clipped_fraction=0.0,
        model="separation/some.model",
        quality_model="quality/some.model",
        settings={"speakers": "auto"},
        source={},
        auriscope_version="0.1.0",
        command="auriscope listen talk.wav",
    )
    result = dataclasses.replace(result, **changes)
    (folder / "report.json").write_text(result.to_json())
    write_page(result, recording, surveys, folder, channel=None, on_progress=lambda fraction: None)
    return result


WORDS = (
    (Word("WELL", 0.2, 0.5, 0.95), Word("I'M", 0.6, 0.8, 0.7), Word("HERE", 0.9, 1.3, 0.2), Word("SO", 2.6, 2.9, 0.9)),
    (Word("<b>", 1.1, 1.4, 0.9), Word("Anna", 1.5, 1.9, 0.4)),
)


def make_crowded_page(folder: Path, num_talkers: int) -> ListenResult:
    """Write a page about as many talkers, each of whom says a word."""
    result = make_page(folder)
    tracks, rate = [], 16000
    sounds = [np.zeros(3 * rate, np.float32) for _ in range(num_talkers)]
    for index, sound in enumerate(sounds):
        sound[1000 * index : 1000 * index + 9000] = 0.1 * np.sin(np.arange(9000) * 0.1)
        write(folder / f"track{index + 1}.wav", sound, rate)
        start = 0.1 * index
        track = dataclasses.replace(
            result.tracks[0],
            path=str(folder / f"track{index + 1}.wav"),
            turns=(Turn(start, start + 0.5),),
            words=(Word("HERE", start, start + 0.4, 0.9),),
        )
        tracks.append(track)
    result = dataclasses.replace(
        result, tracks=tuple(tracks), num_speakers=num_talkers, recognizer="a/b", embedder="speaker/some.model"
    )
    surveys = [survey([sound], rate, len(sound)) for sound in (sum(sounds), *sounds)]
    write_page(result, folder / "input.wav", surveys, folder, channel=None, on_progress=lambda fraction: None)
    return result


def make_transcribed_page(folder: Path, said: tuple[tuple[Word, ...], ...] = WORDS, **changes: Any) -> ListenResult:
    """Write a page about two talkers who say something."""
    result = make_page(folder, **changes)
    tracks = tuple(
        dataclasses.replace(track, words=words, text=" ".join(word.word for word in words))
        for track, words in zip(result.tracks, said, strict=True)
    )
    heard = {"recognizer": "recognition/some.model", "expected_word_error": "a word error of 40 %"}
    return make_page(folder, tracks=tracks, **heard, **changes)


class Addresses(HTMLParser):
    """Collects every attribute of a page that makes a browser fetch something, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "srcset", "poster", "data"} or (tag == "link" and name == "href"):
                self.fetched.append(value or "")
            elif name == "href":
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(page: Path) -> Addresses:
    parser = Addresses()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_everything_is_inside(tmp_path: Path) -> None:
    make_page(tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = parse(tmp_path / "report.html")
    assert all(address.startswith("data:") for address in found.fetched)
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "@import" not in html
    sounds = [address for address in found.fetched if address.startswith("data:audio/ogg;base64,")]
    assert len(sounds) == 3
    for sound in sounds:
        waveform, rate = soundfile.read(io.BytesIO(base64.b64decode(sound.partition(",")[2])))
        assert rate == 16000
        assert len(waveform) == pytest.approx(3 * rate, abs=rate / 50)
        assert np.abs(waveform).max() > 0.05
    assert sum(address.startswith("data:image/png") for address in found.fetched) == 3


def test_long_sound_lies_beside(tmp_path: Path) -> None:
    make_page(tmp_path, sounds=BESIDE)
    found = parse(tmp_path / "report.html")
    beside = [address for address in found.fetched if not address.startswith("data:")]
    assert beside == list(BESIDE)
    for name in beside:
        assert soundfile.info(tmp_path / name).duration == pytest.approx(3.0, abs=0.05)
    assert "the sound files lie in the folder of this page" in found.text


def test_the_figures_are_on_the_page(tmp_path: Path) -> None:
    make_page(tmp_path)
    text = " ".join(parse(tmp_path / "report.html").text.split())
    for expected in ("8.3 dB", "± 1.5 dB", "2.3 dB", "Usable", "Poor", "A warning.", "separation/some.model", "0.1.0"):
        assert expected in text
    assert "auriscope listen talk.wav" in text


def test_a_name_is_text_and_never_markup(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>\"'& {{ page }}.wav"
    make_page(tmp_path, name=name, command=f"auriscope listen '{name}'")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("<script") == 1
    assert "&lt;script&gt;alert(1)" in html or "alert(1)&lt;/script&gt;" in html
    assert "{{ page }}" in html


def test_a_name_of_undecodable_bytes_gives_a_page(tmp_path: Path) -> None:
    make_page(tmp_path, name=b"caf\xe9.wav".decode("utf-8", "surrogateescape"))
    assert "caf?.wav" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_is_said_is_on_the_page_in_order_of_time_and_how_sure_it_is_in_words(tmp_path: Path) -> None:
    make_transcribed_page(tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    lines = re.findall(r'<li class="hue(\d)" data-track="\1">(.*?)</li>', html, flags=re.DOTALL)
    texts = [(track, re.sub("<[^>]*>", "", line).split()) for track, line in lines]
    assert texts == [
        ("1", "Talker 1 0:00 well I'm (to be checked) here (a guess)".replace("'", "&#39;").split()),
        ("2", ["Talker", "2", "0:01", "&lt;b&gt;", "Anna", "(a", "guess)"]),
        ("1", ["Talker", "1", "0:02", "so"]),
    ]
    assert 'data-from="0.90" data-to="1.30" title="0:00.9, 20 % sure"' in html
    text = " ".join(parse(tmp_path / "report.html").text.split())
    assert "Its card says to expect a word error of 40 %" in text
    assert "Talker 2 Anna 0:01.5 0:01.9 40 %".replace(" ", "") in text.replace(" ", "")
    assert "recognition/some.model" in text
    back = ListenResult.read(tmp_path / "report.json")
    assert [track.words for track in back.tracks] == list(WORDS)


def test_without_words_it_says_so_and_without_a_recogniser_nothing(tmp_path: Path) -> None:
    make_transcribed_page(tmp_path, ((), ()))
    assert "No words were recognised." in parse(tmp_path / "report.html").text
    make_page(tmp_path)
    assert "What is said" not in parse(tmp_path / "report.html").text


def test_hours_of_talk_stay_a_page(tmp_path: Path) -> None:
    many = tuple(Word("WORD", 0.1 * number, 0.1 * number + 0.09, 0.9) for number in range(MAX_WORDS))
    make_transcribed_page(tmp_path, (many, many[:1000]))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert MAX_WORDS - LINE_WORDS < html.count("data-from=") <= MAX_WORDS
    left_out = MAX_WORDS + 1000 - html.count("data-from=")
    assert f"{left_out} more words are in" in html
    # A word of a line is in the order of the Tab key.
    assert html.count("<button") - html.count('<button type="button" tabindex="-1"') < MAX_WORDS / 30


def test_colours_begin_again_but_tracks_do_not(tmp_path: Path) -> None:
    make_crowded_page(tmp_path, NUM_HUES + 1)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "speaker/some.model, which told the voices apart" in page
    last = NUM_HUES + 1
    assert f'<li class="hue1" data-track="{last}">' in page
    assert f'<section class="card hue1" id="track-{last}"' in page
    assert f'data-sound="{last}"' in page
    style = (Path(listen.__file__).parent / "listen.css").read_text(encoding="utf-8")
    for hue in range(NUM_HUES + 1):
        assert len(re.findall(rf"--hue{hue}: #", style)) == 2, "in light and in dark"
        assert f".hue{hue} {{" in style


def test_many_turns_stay_a_short_page(tmp_path: Path) -> None:
    turns = tuple(Turn(0.001 * index, 0.001 * index + 0.0005) for index in range(2900))
    result = make_page(tmp_path)
    tracks = (dataclasses.replace(result.tracks[0], turns=turns), result.tracks[1])
    make_page(tmp_path, tracks=tracks)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("<tr><td>") == MAX_TURN_ROWS
    assert html.count("<rect") < 1100


def test_the_json_is_read_back_wherever_the_folder_is(tmp_path: Path) -> None:
    result = make_page(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    values = json.loads((tmp_path / "two" / "report.json").read_text())
    assert values["schema_version"] == 1
    assert values["tracks"][0]["text"] is None
    back = ListenResult.read(tmp_path / "two" / "report.json")
    assert back.tracks[1].path == str(tmp_path / "two" / "talker-2.wav")
    assert back.tracks[1].turns == result.tracks[1].turns
    assert back.report == str(tmp_path / "two" / "report.html")


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 192000])
def test_opus_keeps_time_and_level_at_any_rate(tmp_path: Path, rate: int) -> None:
    time = np.arange(rate) / rate
    waveform = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    encode_opus(np.array_split(waveform, 5), rate, tmp_path / "tone.opus")
    decoded, decoded_rate = soundfile.read(tmp_path / "tone.opus")
    assert len(decoded) / decoded_rate == pytest.approx(1.0, abs=0.03)
    middle = decoded[len(decoded) // 4 : -len(decoded) // 4]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield launched
        launched.close()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("num_talkers", [2, NUM_HUES + 1])
def test_axe_finds_nothing(browser: Any, tmp_path: Path, scheme: str, width: int, num_talkers: int) -> None:
    if num_talkers == 2:
        make_transcribed_page(tmp_path, enhanced=scheme == "dark")
    else:
        make_crowded_page(tmp_path, num_talkers)
    # The page's own policy forbids foreign scripts; only this test may bring axe in.
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    for summary in page.locator("summary").all():
        summary.click()
    page.add_script_tag(content=AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert len(found["passes"]) > 20
    assert [(violation["id"], violation["nodes"][0]["html"]) for violation in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@needs_browser
def test_nothing_is_fetched_and_nothing_fails(browser: Any, tmp_path: Path) -> None:
    make_page(tmp_path)
    context = browser.new_context(offline=True)
    page = context.new_page()
    requested: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri(), wait_until="load")
    durations = page.evaluate(
        """Promise.all([...document.querySelectorAll('audio')].map((sound) => new Promise((done) => {
             if (sound.readyState > 0) done(sound.duration);
             sound.onloadedmetadata = () => done(sound.duration);
             sound.onerror = () => done(null);
           })))"""
    )
    assert durations == pytest.approx([3.0, 3.0, 3.0], abs=0.1)
    assert problems == []
    assert [url for url in requested if not re.match(r"(file|data):", url)] == []
    context.close()


@needs_browser
def test_sound_beside_the_page_plays(browser: Any, tmp_path: Path) -> None:
    make_page(tmp_path, sounds=BESIDE)
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_function("[...document.querySelectorAll('audio')].every((sound) => sound.readyState > 0)")
    assert page.evaluate("document.querySelectorAll('audio')[1].duration") == pytest.approx(3.0, abs=0.1)
    context.close()


@needs_browser
def test_tracks_are_compared_at_the_same_moment_by_keyboard(browser: Any, tmp_path: Path) -> None:
    make_page(tmp_path, seconds=12.0)  # which a slow machine does not play to the end meanwhile
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_function("[...document.querySelectorAll('audio')].every((sound) => sound.readyState > 0)")
    page.evaluate("for (const sound of document.querySelectorAll('audio')) sound.muted = true")
    page.evaluate("document.querySelectorAll('audio')[0].currentTime = 1")
    page.locator("#deck-play").press("Enter")
    playing = "[...document.querySelectorAll('audio')].findIndex((sound) => !sound.paused)"
    page.wait_for_function(f"{playing} === 0")
    page.locator("input[name=hear][value='0']").press("ArrowRight")
    page.wait_for_function(f"{playing} === 1")
    assert page.evaluate("document.querySelectorAll('audio')[1].currentTime") >= 1.0
    assert page.evaluate("[...document.querySelectorAll('audio')].filter((sound) => !sound.paused).length") == 1
    page.locator("#deck-play").press("Space")
    page.wait_for_function(f"{playing} === -1")
    context.close()


@needs_browser
def test_a_word_plays_from_there_and_the_arrows_go_from_word_to_word(browser: Any, tmp_path: Path) -> None:
    make_transcribed_page(tmp_path, seconds=12.0)
    context = browser.new_context()
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_function("[...document.querySelectorAll('audio')].every((sound) => sound.readyState > 0)")
    page.evaluate("for (const sound of document.querySelectorAll('audio')) sound.muted = true")
    word = page.locator("#said button")
    playing = "[...document.querySelectorAll('audio')].findIndex((sound) => !sound.paused)"
    word.nth(3).click()
    page.wait_for_function(f"{playing} === 2")
    assert page.evaluate("document.querySelectorAll('audio')[2].currentTime") == pytest.approx(1.1, abs=1.0)
    page.evaluate("for (const sound of document.querySelectorAll('audio')) sound.pause()")
    # Only one word of a line takes part in the order of the Tab key, and it is the one that was visited.
    focused = "document.activeElement.dataset.from"
    assert page.evaluate(focused) == "1.10"
    for key, expected in (
        ("ArrowRight", "1.50"),
        ("ArrowRight", "2.60"),
        ("ArrowLeft", "1.50"),
        ("ArrowUp", "0.20"),
        ("ArrowDown", "1.10"),
        ("ArrowLeft", "0.90"),
    ):
        page.keyboard.press(key)
        assert page.evaluate(focused) == expected
    page.keyboard.press("Enter")
    page.wait_for_function(f"{playing} === 1")
    tabs = "document.querySelector('#said [data-track]').querySelectorAll('[tabindex=\"0\"]').length"
    assert page.evaluate(tabs) == 1
    page.evaluate("document.querySelectorAll('audio')[1].pause()")
    page.evaluate("document.querySelectorAll('audio')[1].currentTime = 1.0")
    page.wait_for_function("document.querySelectorAll('#said .now').length === 1")
    assert page.evaluate("document.querySelector('#said .now').dataset.from") == "0.90"
    assert problems == []
    context.close()
