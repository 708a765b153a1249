"""The report on a voice: what it measures, its page, and the listening study that comes of it."""

from __future__ import annotations

import csv
import gzip
import html.parser
import importlib.util
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.errors import AuriscopeError
from auriscope.pretrained import model_class
from auriscope.signal.files import probe, write
from auriscope.speaker.xvector import XVector, XVectorConfig
from auriscope.verbs.say import find_mark
from auriscope.verbs.sayer import Sayer, SayerSettings
from auriscope.verbs.speech_report import Prompt, SpeechReport, speech_report
from auriscope.verbs.speech_report.page import attention_png
from auriscope.verbs.transcriber import Transcriber, TranscriberSettings
from auriscope.verbs.voice import VoiceReader

from .speller import VOCODER, Speller, SpellerConfig, tone

CHROMIUM = Path("/usr/bin/chromium")
AXE = gzip.decompress((Path(__file__).parents[1] / "vendor" / "axe-core" / "axe.min.js.gz").read_bytes()).decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def report(folder: Path) -> SpeechReport:
    torch.manual_seed(0)
    for number, hertz in enumerate((150.0, 220.0)):
        write(folder / f"clip{number}.wav", tone(1.5, hertz), 16_000)
    prompts = [
        Prompt("It cost $5 🙂. <b>Really</b>?", folder / "clip0.wav"),
        Prompt("Extraquick", folder / "clip1.wav"),
        Prompt("And one more."),
    ]
    cls = model_class("recognition/conformer-ctc")
    recognizer: Any = cls.from_config(dict(cls.Tiny)).eval()
    return speech_report(
        prompts,
        folder / "out",
        sayer=Sayer(SayerSettings(Speller(SpellerConfig(stumbling=1.0)), VOCODER)),
        transcriber=Transcriber(TranscriberSettings(recognizer)),
        voices=VoiceReader(XVector(XVectorConfig(**XVector.Tiny)).eval()),
    )


def test_the_attention_is_counted(report: SpeechReport) -> None:
    assert [item.attention_ok for item in report.items] == [True, False, True]
    assert report.attention_share == report.first_try_share == pytest.approx(2 / 3)
    assert report.items[1].repeated == 5
    assert report.items[0].spoken == "it cost five dollars. b really b?"
    assert report.warnings == ("001: left out what this voice cannot speak: 🙂",)
    assert report.speed > 0


def test_words_and_likeness_are_measured(report: SpeechReport) -> None:
    assert report.character_errors is not None
    assert report.character_errors.num_characters == len("IT COST FIVE DOLLARS B REALLY B") + 10 + len("AND ONE MORE")
    assert report.recording_character_errors is not None
    assert report.recording_character_errors.num_characters == len("IT COST FIVE DOLLARS B REALLY B") + 10
    assert [item.recording_heard is None for item in report.items] == [False, False, True]
    assert all(item.similarity is not None and -1 <= item.similarity <= 1.001 for item in report.items)
    # Two recordings of one voice score the same with each other.
    first, second, third = (item.recording_similarity for item in report.items)
    assert first == pytest.approx(second)
    assert third is None


def test_the_sounds_say_that_they_are_synthetic_and_the_real_ones_do_not(report: SpeechReport, folder: Path) -> None:
    assert find_mark(folder / "out/001.flac").synthetic
    assert not find_mark(folder / "out/001-real.flac").synthetic
    assert probe(folder / "out/002.flac").duration_seconds == pytest.approx(report.items[1].duration_seconds, abs=0.001)


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_closed_file(report: SpeechReport) -> None:
    page = _Page()
    page.feed(Path(report.files[0]).read_text(encoding="utf-8"))
    assert "<b>Really</b>" in page.text, "what people write is text"
    assert "67 %" in page.text
    assert "failed" in page.text
    sounds = [attributes for tag, attributes in page.tags if tag == "audio"]
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(sounds) == 5
    assert len(pictures) == 4, "one of them has two sentences"
    for each in (*sounds, *pictures):
        assert str(each["src"]).startswith("data:")
        assert each.get("alt") or each.get("aria-label")


@pytest.mark.skipif(
    not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None,
    reason="needs /usr/bin/chromium and playwright",
)
def test_the_page_is_accessible_and_plays(report: SpeechReport) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for scheme, width in (("light", 1280), ("dark", 390)):
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
            complaints: list[str] = []
            page.on("console", lambda message, heard=complaints: heard.append(message.text))
            page.goto(Path(report.files[0]).resolve().as_uri())
            page.wait_for_function("[...document.querySelectorAll('audio')].every(each => each.duration > 0)")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.evaluate(AXE)
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
            assert complaints == []
        browser.close()


def test_the_picture_of_an_attention() -> None:
    attention = np.eye(50, 10, dtype=np.float32)
    picture = Image.open(io.BytesIO(attention_png(attention))).convert("L")
    assert picture.size == (50, 160)
    pixels = np.array(picture)
    # The first token in the first frame, above; nothing elsewhere.
    assert pixels[4, 0] < 60
    assert pixels[100, 0] == 255


def test_a_listening_study_takes_the_items(report: SpeechReport, tmp_path: Path) -> None:
    with Path(report.files[2]).open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    assert [(row["name"], row["system"]) for row in rows] == [
        ("001", "synthesis/speller"), ("001-real", "real voice"),
        ("002", "synthesis/speller"), ("002-real", "real voice"), ("003", "synthesis/speller"),
    ]  # fmt: skip
    runner = CliRunner()
    assert runner.invoke(app, ["study", "init", str(tmp_path / "rating"), "--kind", "listening"]).exit_code == 0
    campaign = tmp_path / "rating/campaign.yaml"
    text = campaign.read_text(encoding="utf-8").replace("scale: quality", "scale: naturalness")
    campaign.write_text(text.replace("manifest: items.csv", f"manifest: {report.files[2]}"), encoding="utf-8")
    done = runner.invoke(app, ["study", "items", str(tmp_path / "rating"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[0])["num_new"] == 5


def test_the_record_holds_the_totals(report: SpeechReport) -> None:
    record = json.loads(Path(report.files[1]).read_text(encoding="utf-8"))
    assert record["attention_share"] == pytest.approx(2 / 3)
    assert record["cer"] == pytest.approx(report.to_dict()["cer"])
    assert [item["name"] for item in record["items"]] == ["001", "002", "003"]


def test_the_command_makes_a_report(tmp_path: Path) -> None:
    Speller(SpellerConfig()).save_pretrained(tmp_path / "model")
    (tmp_path / "lines.txt").write_text("One.\n\nTwo and three.\n")
    arguments = ["say", "--file", tmp_path / "lines.txt", "--report", tmp_path / "out", "--model", tmp_path / "model"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--recognizer", "none", "--vocoder", "griffin-lim", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [item["text"] for item in found["items"]] == ["One.", "Two and three."]
    assert found["attention_share"] == 1.0
    assert found["cer"] is None
    assert (tmp_path / "out/report.html").is_file()


def test_without_sentences_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match=re.escape("needs at least one sentence")):
        speech_report([], tmp_path, sayer=Sayer(SayerSettings(Speller(SpellerConfig()), VOCODER)))
