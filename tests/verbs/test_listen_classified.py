"""What a classifier hears, on the page of listen."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from auriscope.errors import AuriscopeError
from auriscope.metrics.ratios import si_snr
from auriscope.quality import SiSnrEstimator
from auriscope.separation import ConvTasNet
from auriscope.signal.files import read, write
from auriscope.verbs.batch import expand_inputs
from auriscope.verbs.listen import ListenResult, listen

from .hearers import HIGH, LOW, RATE, Bands, BandsConfig, Sides, SidesConfig

CHROMIUM = Path("/usr/bin/chromium")
AXE = gzip.decompress((Path(__file__).parents[1] / "vendor" / "axe-core" / "axe.min.js.gz").read_bytes()).decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classified")
    torch.manual_seed(0)
    ConvTasNet.from_config({**ConvTasNet.Tiny, "sample_rate": RATE}).save_pretrained(folder / "separator")
    SiSnrEstimator.from_config({**SiSnrEstimator.Tiny, "sample_rate": RATE}).save_pretrained(folder / "estimator")
    Bands(BandsConfig()).save_pretrained(folder / "bands")
    Sides(SidesConfig()).save_pretrained(folder / "sides")
    (folder / "in").mkdir()
    write(folder / "in/both.wav", LOW + HIGH, RATE)
    return folder


def hear(folder: Path, inputs: Path, **options: Any) -> ListenResult:
    given = {"model": folder / "separator", "quality_model": folder / "estimator", "recognizer": False}
    (result,) = listen(inputs, folder / "out", **{**given, "classifier": folder / "bands", **options})
    return result


@pytest.fixture(scope="module")
def result(folder: Path) -> ListenResult:
    return hear(folder, folder / "in/both.wav", explain="occlusion")


def test_the_page_tells_the_class_and_plays_what_speaks_for_it(result: ListenResult) -> None:
    found = result.classified
    assert result.error is None
    assert found is not None
    assert (found.label, found.method, found.classes[0].label) == ("low", "occlusion", "low")
    heard, both = torch.from_numpy(read(found.heard)[0]), torch.from_numpy(LOW + HIGH)
    assert si_snr(heard, torch.from_numpy(LOW)) > si_snr(both, torch.from_numpy(LOW)) + 10
    page = Path(result.report).read_text(encoding="utf-8")
    assert "What a classifier hears" in page
    assert 'href="explain-occlusion.html"' in page
    assert page.count("<audio") == 4
    assert "--classify" in result.command
    assert Path(found.page).is_file()


@pytest.mark.skipif(
    not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None,
    reason="needs /usr/bin/chromium and playwright",
)
def test_the_page_is_accessible_and_the_deck_has_the_sound(result: ListenResult) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(color_scheme="dark", viewport={"width": 390, "height": 900})
        page.goto(Path(result.report).resolve().as_uri())
        page.wait_for_function("[...document.querySelectorAll('audio')].every(each => each.duration > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.evaluate(AXE)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
        page.check("input[name=hear][value=classified]")
        page.click("#deck-play")
        assert not page.evaluate("document.querySelector('audio[data-sound=classified]').paused")
        browser.close()


def test_it_is_not_done_again_and_moves_with_its_folder(folder: Path, result: ListenResult, tmp_path: Path) -> None:
    again = hear(folder, folder / "in/both.wav", explain="occlusion")
    assert again.resumed
    assert again.classified == result.classified
    moved = tmp_path / "moved"
    Path(result.report).parent.rename(moved)
    read_again = ListenResult.read(moved / "report.json").classified
    assert read_again is not None
    assert read_again.heard == str(moved / "occlusion-heard.wav")
    moved.rename(Path(result.report).parent)
    # Another method is other work.
    assert not hear(folder, folder / "in/both.wav", explain="gradients").resumed
    # Nothing that was written is taken for a recording.
    assert expand_inputs(folder / "out") == []


def test_silence_is_a_remark_and_no_failure(folder: Path) -> None:
    write(folder / "in/silent.wav", np.zeros(RATE, np.float32), RATE)
    result = hear(folder, folder / "in/silent.wav")
    assert result.error is None
    assert result.classified is None
    assert any("there is nothing in it to classify" in warning for warning in result.warnings)


def test_a_classifier_of_pictures_hears_nothing(folder: Path) -> None:
    with pytest.raises(AuriscopeError, match="sees pictures; give a classifier of sounds"):
        hear(folder, folder / "in/both.wav", classifier=folder / "sides")
    with pytest.raises(AuriscopeError, match="there is no method"):
        hear(folder, folder / "in/both.wav", explain="guess")
