"""The verb explain: what was heard is what the classifier goes by, and every way to fail is one line."""

from __future__ import annotations

import csv
import gzip
import html.parser
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from auriscope.classification import CNN, CNNConfig
from auriscope.cli import app
from auriscope.errors import AuriscopeError
from auriscope.interpretation import METHODS, TrainedInterpreter
from auriscope.interpretation.interpreter import facts
from auriscope.metrics.ratios import si_snr
from auriscope.signal.files import read, write
from auriscope.verbs.explain import ExplainResult, explain
from auriscope.verbs.explain.methods import TRAINED, UNTRAINED, load_method
from auriscope.verbs.listen.words import percent

from .hearers import HIGH, LOW, RATE, Bands, BandsConfig, Sides, SidesConfig, tone

CHROMIUM = Path("/usr/bin/chromium")
AXE = gzip.decompress((Path(__file__).parents[1] / "vendor" / "axe-core" / "axe.min.js.gz").read_bytes()).decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classifiers, a recording and a picture."""
    folder = tmp_path_factory.mktemp("explain")
    Bands(BandsConfig()).save_pretrained(folder / "bands")
    Sides(SidesConfig()).save_pretrained(folder / "sides")
    torch.manual_seed(0)
    CNN(CNNConfig(labels=("low", "high"), **CNN.Tiny)).save_pretrained(folder / "cnn")
    write(folder / "both & <b>all.wav", LOW + HIGH, RATE)
    pixels = np.zeros((8, 12), np.uint8)
    pixels[2:5, 1:4], pixels[2:4, 9:10] = 250, 180
    Image.fromarray(pixels).save(folder / "spots.png")
    return folder


@pytest.fixture(scope="module")
def sound(folder: Path) -> ExplainResult:
    (result,) = explain(folder / "both & <b>all.wav", folder / "out", model=folder / "bands", method="occlusion")
    return result


@pytest.fixture(scope="module")
def picture(folder: Path) -> ExplainResult:
    (result,) = explain(folder / "spots.png", folder / "pictures", model=folder / "sides", method="occlusion")
    return result


def heard(result: ExplainResult) -> torch.Tensor:
    return torch.from_numpy(read(result.outputs[1])[0])


def test_what_was_heard_is_what_the_class_is_told_by(sound: ExplainResult) -> None:
    assert sound.error is None
    assert (sound.method, sound.label, sound.decided, sound.kind) == ("occlusion", "low", "low", "sound")
    assert (sound.sample_rate, sound.duration_seconds) == (RATE, 1.5)
    low, both = torch.from_numpy(LOW), torch.from_numpy(LOW + HIGH)
    assert si_snr(heard(sound), low) > si_snr(both, low) + 10
    assert sound.fidelity == 1.0
    assert sound.faithfulness is not None
    assert sound.faithfulness > 0.3
    assert set(sound.figures) == {"average_drop", "average_increase", "average_gain", "sparseness", "complexity"}
    first = sound.probabilities[0]
    assert first.label == "low"
    assert first.input - first.rest == pytest.approx(sound.faithfulness, abs=1e-5)
    assert sum(row.input for row in sound.probabilities) == pytest.approx(1.0, abs=1e-5)


def test_what_was_heard_and_left_are_the_recording(sound: ExplainResult) -> None:
    parts = [read(path)[0] for path in sound.outputs[1:]]
    np.testing.assert_allclose(parts[0] + parts[1], parts[2], atol=1e-4)
    np.testing.assert_allclose(parts[2], LOW + HIGH, atol=1e-4)


@pytest.mark.parametrize("method", ["lime", "integrated-gradients"])
def test_another_class_of_the_same_recording_can_be_asked_for(folder: Path, method: str) -> None:
    path = folder / "both & <b>all.wav"
    (result,) = explain(path, folder / "asked", model=folder / "bands", method=method, label="high")
    assert (result.label, result.decided) == ("high", "low")
    high, both = torch.from_numpy(HIGH), torch.from_numpy(LOW + HIGH)
    assert si_snr(heard(result), high) > si_snr(both, high) + 6
    assert Path(result.page).name == f"explain-{method}-high.html"
    assert "high" in [row.label for row in result.probabilities]


def test_lime_can_leave_out_separated_sources(folder: Path) -> None:
    """A separator that parts by frequency makes segments that no bands of time would."""

    class Halves(torch.nn.Module):
        name = "separation/halves"
        instead = ""

        @property
        def config(self) -> Any:
            return type("Config", (), {"sample_rate": RATE, "num_sources": 2})

        def forward(self, mixture: torch.Tensor) -> torch.Tensor:
            spectrum = torch.fft.rfft(mixture)
            low = torch.arange(spectrum.shape[-1]) < spectrum.shape[-1] // 2
            parts = (spectrum * low, spectrum * ~low)
            return torch.stack([torch.fft.irfft(part, mixture.shape[-1]) for part in parts], 1)

    (result,) = explain(
        folder / "both & <b>all.wav", folder / "sources", model=folder / "bands", method="lime", separator=Halves()
    )
    assert result.error is None
    power = torch.fft.rfft(heard(result)).abs().square()
    # The low source in some spans of time, and the high one in none.
    assert power[: len(power) // 2].sum() > 300 * power[len(power) // 2 :].sum() > 0
    with pytest.raises(AuriscopeError, match="leave --separator out"):
        load_method("occlusion", model=folder / "bands", separator=Halves())


def test_pictures_are_explained_too(picture: ExplainResult) -> None:
    assert picture.error is None
    assert (picture.label, picture.kind, picture.duration_seconds) == ("left", "picture", None)
    seen, left, mask = (np.asarray(Image.open(path)).astype(int) for path in picture.outputs[1:])
    assert seen.shape == left.shape == mask.shape == (8, 12)
    assert seen[:, :6].sum() > 0
    assert seen[:, 6:].sum() == 0
    assert left[2, 9] == 180
    assert picture.fidelity == 1.0


class _Page(html.parser.HTMLParser):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(Path(path).read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_closed_file(sound: ExplainResult, picture: ExplainResult) -> None:
    page = _Page(sound.page)
    assert "both & <b>all.wav" in page.text, "a file's name is text"
    assert f"The classifier hears low ({percent(sound.probabilities[0].input)})." in page.text
    media = [attributes for tag, attributes in page.tags if tag in ("audio", "img")]
    assert len(media) == 7, "three sounds, their spectrograms, and the mask"
    pictures = [attributes for tag, attributes in _Page(picture.page).tags if tag == "img"]
    assert len(pictures) == 4
    for each in (*media, *pictures):
        assert str(each["src"]).startswith("data:")
        assert each.get("alt") or each.get("aria-label")
    rows = [attributes for tag, attributes in page.tags if tag == "tr" and attributes.get("class") == "explained"]
    assert len(rows) == 1


@pytest.mark.skipif(
    not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None,
    reason="needs /usr/bin/chromium and playwright",
)
def test_the_pages_are_accessible_and_play(sound: ExplainResult, picture: ExplainResult) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for result, scheme, width in ((sound, "light", 1280), (sound, "dark", 390), (picture, "dark", 390)):
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
            complaints: list[str] = []
            page.on("console", lambda message, heard=complaints: heard.append(message.text))
            page.goto(Path(result.page).resolve().as_uri())
            page.wait_for_function("[...document.querySelectorAll('audio')].every(each => each.duration > 0)")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.evaluate(AXE)
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
            if result is sound:
                page.check("input[name=hear][value='1']")
                page.click("#deck-play")
                assert not page.evaluate("document.querySelector('audio[data-sound=\"1\"]').paused")
            assert complaints == []
        browser.close()


def test_what_is_done_is_not_done_again(folder: Path, sound: ExplainResult) -> None:
    path = folder / "both & <b>all.wav"
    before = Path(sound.page).stat().st_mtime_ns
    (again,) = explain(path, folder / "out", model=folder / "bands", method="occlusion")
    assert again.resumed
    assert again.to_dict() | {"resumed": False} == sound.to_dict()
    assert Path(sound.page).stat().st_mtime_ns == before
    (forced,) = explain(path, folder / "out", model=folder / "bands", method="occlusion", force=True)
    assert not forced.resumed
    # What was heard and left is no recording to be explained.
    (folder / "own").mkdir()
    write(folder / "own/one.wav", LOW, RATE)
    explain(folder / "own", folder / "own", model=folder / "bands", method="gradients")
    assert len(explain(folder / "own", folder / "own", model=folder / "bands", method="occlusion")) == 1


def test_a_listening_study_takes_the_items(folder: Path, sound: ExplainResult, tmp_path: Path) -> None:
    explain(folder / "both & <b>all.wav", folder / "out", model=folder / "bands", method="gradients", label="high")
    with (folder / "out/items.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    assert {(row["system"], row["class"]) for row in rows} >= {("occlusion", "low"), ("gradients", "high")}
    assert float(next(row["fact_fidelity"] for row in rows if row["system"] == "occlusion")) == sound.fidelity
    runner = CliRunner()
    assert runner.invoke(app, ["study", "init", str(tmp_path / "rating"), "--kind", "listening"]).exit_code == 0
    campaign = tmp_path / "rating/campaign.yaml"
    text = campaign.read_text(encoding="utf-8").replace("scale: quality", "scale: interpretation")
    campaign.write_text(text.replace("manifest: items.csv", f"manifest: {folder / 'out/items.csv'}"), encoding="utf-8")
    done = runner.invoke(app, ["study", "items", str(tmp_path / "rating"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[0])["num_new"] == len(rows)


def test_a_long_recording_gives_one_class_and_whole_sounds(folder: Path) -> None:
    long = np.concatenate((tone(8.0, 500.0), np.zeros(6 * RATE, np.float32), tone(3.0, 500.0)))
    write(folder / "long.wav", long, RATE)
    seen: list[float] = []
    (result,) = explain(
        folder / "long.wav",
        folder / "long",
        model=folder / "bands",
        method="gradients",
        progress=lambda state: seen.append(state.fraction),
    )
    assert result.error is None
    assert result.duration_seconds == 17.0
    parts = [read(path)[0] for path in result.outputs[1:]]
    assert {len(part) for part in parts} == {17 * RATE}
    np.testing.assert_allclose(parts[0] + parts[1], long, atol=1e-4)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


# What can go wrong


def test_silence_is_told_in_one_line_and_stops_no_other(folder: Path) -> None:
    write(folder / "silent.wav", np.zeros(RATE, np.float32), RATE)
    results = explain(
        [folder / "silent.wav", folder / "none.wav", folder / "both & <b>all.wav"],
        folder / "some",
        model=folder / "bands",
        method="gradients",
    )
    assert [result.error is None for result in results] == [False, False, True]
    assert "is silent: there is nothing in it to classify or to explain" in str(results[0].error)
    assert results[0].to_dict() == {"input": str(folder / "silent.wav"), "error": results[0].error}
    assert not (folder / "some/silent").exists()
    Image.new("L", (9, 9), 77).save(folder / "blank.png")
    (blank,) = explain(folder / "blank.png", folder / "some", model=folder / "sides", method="lime")
    assert "is blank" in str(blank.error)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"label": "lwo"}, "there is no class 'lwo'; did you mean 'low'?"),
        ({"method": "limes"}, "there is no method 'limes'; did you mean 'lime'?"),
        ({"method": "grad-cam"}, "grad-cam needs the hidden maps of a classifier"),
        ({"method": "piq"}, "piq has to be trained for a classifier, and none that ships explains"),
        ({"model": "nothing-here"}, "nothing-here"),
        ({"classifier": "elsewhere"}, "is no interpreter"),
    ],
)
def test_what_cannot_be_explained_is_told_in_one_line(folder: Path, options: dict[str, str], line: str) -> None:
    given: dict[str, Any] = {"model": folder / "bands", **options}
    with pytest.raises(AuriscopeError) as caught:
        explain(folder / "both & <b>all.wav", folder / "none", **given)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "none").exists()


def test_a_classifier_of_one_class_has_nothing_to_explain(folder: Path) -> None:
    Bands(BandsConfig()).save_pretrained(folder / "one")
    text = (folder / "one/config.json").read_text(encoding="utf-8")
    values = json.loads(text)
    values["config"]["labels"] = ["low"]
    (folder / "one/config.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(AuriscopeError, match="labels must name at least two classes") as caught:
        explain(folder / "both & <b>all.wav", folder / "none", model=folder / "one")
    assert "\n" not in str(caught.value)


def test_a_separator_does_not_classify() -> None:
    with pytest.raises(AuriscopeError, match="does not classify sounds or pictures"):
        load_method("lime", model="separation/dprnn.mini")


def test_a_trained_interpreter_names_its_classifier(folder: Path) -> None:
    classifier = load_method("lime", model=folder / "cnn").classifier
    kind: Any = METHODS["lmac"]
    config = {**facts(classifier, kind.Config), "classifier": str(folder / "cnn")}
    torch.manual_seed(0)
    kind.from_config(config).save_pretrained(folder / "lmac")
    kind.from_config({**config, "classifier": ""}).save_pretrained(folder / "nameless")
    method = load_method(None, model=str(folder / "lmac"))
    assert (method.name, method.classifier_address) == ("lmac", str(folder / "cnn"))
    assert isinstance(method.interpreter, TrainedInterpreter)
    assert method.settings() == load_method("lmac", model=str(folder / "lmac")).settings()
    write(folder / "short.wav", tone(0.3, 400.0, rate=16_000), 16_000)
    (result,) = explain(folder / "short.wav", folder / "trained", model=folder / "lmac")
    assert (result.error, result.method, result.interpreter) == (None, "lmac", str(folder / "lmac"))
    with pytest.raises(AuriscopeError, match="explains by lmac, not by lime"):
        load_method("lime", model=folder / "lmac")
    with pytest.raises(AuriscopeError, match="give it with --classifier"):
        load_method(None, model=folder / "nameless")
    assert load_method(None, model=folder / "nameless", classifier=folder / "cnn").name == "lmac"
    with pytest.raises(AuriscopeError, match="needs the hidden maps"):
        load_method(None, model=folder / "lmac", classifier=folder / "bands")


def test_every_method_is_trained_or_not() -> None:
    assert {*TRAINED, *UNTRAINED} == set(METHODS)
    assert "lime" in UNTRAINED


def test_the_command(folder: Path) -> None:
    path = folder / "both & <b>all.wav"
    arguments = ["explain", path, "--model", folder / "bands", "--method", "gradients", "--out", folder / "command"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {"input", "method", "label", "outputs", "fidelity", "faithfulness"} <= set(found)
    assert all(Path(name).is_file() for name in found["outputs"])
    told = CliRunner().invoke(app, [*map(str, arguments)])
    assert "low, by gradients (done before)" in told.stdout
    failed = CliRunner().invoke(app, [*map(str, arguments), "--label", "none", "--json"])
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["input"] == str(path)
