"""The verb ``classify``: windows over time, silence, pictures, and everything that can be wrong with a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from typer.testing import CliRunner

import auriscope
from auriscope.classification import CNN, ImageCNN
from auriscope.classification.imagecnn import ImageCNNConfig
from auriscope.cli import app
from auriscope.errors import AuriscopeError
from auriscope.signal.resampling import resample

LABELS = ("hum", "hiss", "click")


@pytest.fixture(scope="module")
def model() -> CNN:
    torch.manual_seed(0)
    return CNN.from_config({**CNN.Tiny, "labels": LABELS}).eval()


@pytest.fixture(scope="module")
def folder(model: CNN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "classifier"
    model.save_pretrained(place)
    return place


def noise(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    waveform = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    return waveform.astype(np.float32)


def test_a_short_recording_is_heard_as_one(model: CNN, tmp_path: Path) -> None:
    rate = int(model.config.sample_rate)
    soundfile.write(tmp_path / "short.wav", noise(2.0, rate), rate, subtype="FLOAT")
    (result,) = auriscope.classify(tmp_path / "short.wav", model=model, top=3)
    with torch.inference_mode():
        expected = model.predict_proba(torch.from_numpy(noise(2.0, rate))[None])[0]
    found = {each.label: each.probability for each in result.labels}
    assert found == pytest.approx(dict(zip(LABELS, expected.tolist(), strict=True)), abs=1e-6)
    assert [each.probability for each in result.labels] == sorted(found.values(), reverse=True)
    assert [(window.start_seconds, window.end_seconds) for window in result.windows] == [(0.0, 2.0)]
    assert result.duration_seconds == 2.0
    assert len(auriscope.classify(tmp_path / "short.wav", model=model, top=1)[0].labels) == 1


def test_a_long_recording_is_heard_window_by_window(model: CNN, tmp_path: Path) -> None:
    rate = int(model.config.sample_rate)
    # Two seconds of sound, four of silence, one and a half of another sound, in stereo and at another rate.
    parts = (noise(2.0, 2 * rate), np.zeros(8 * rate, np.float32), noise(1.5, 2 * rate, 1))
    whole = np.concatenate(parts)
    soundfile.write(tmp_path / "long.wav", np.stack([whole, whole], 1), 2 * rate, subtype="FLOAT")
    (result,) = auriscope.classify(tmp_path / "long.wav", tmp_path / "out", model=model, window_seconds=1.0)
    assert [window.start_seconds for window in result.windows[:4]] == [0.0, 0.5, 1.0, 1.5]
    assert result.windows[-1].end_seconds == result.duration_seconds == 7.5
    silent = [window for window in result.windows if window.label is None]
    assert {window.probability for window in silent} == {None}
    assert all(window.start_seconds >= 2.0 and window.end_seconds <= 6.1 for window in silent)
    assert len(silent) >= 5
    heard = resample(torch.from_numpy(whole)[None], 2 * rate, rate)
    with torch.inference_mode():
        expected = model.predict_proba(heard[:, rate // 2 : rate // 2 + rate])[0]
    assert result.windows[1].label == LABELS[int(expected.argmax())]
    assert result.windows[1].probability == pytest.approx(float(expected.max()), abs=1e-4)
    rows = list(csv.DictReader((tmp_path / "out" / "long" / "classify.csv").open()))
    assert len(rows) == len(result.windows)
    assert float(rows[1][result.windows[1].label]) == pytest.approx(float(expected.max()), abs=1e-4)
    # The whole is the mean of what is not silent.
    there = [row for row in rows if row["hum"]]
    assert len(there) == len(rows) - len(silent)
    weights = [float(row["end_seconds"]) - float(row["start_seconds"]) for row in there]
    mean = np.average([float(row["hum"]) for row in there], weights=weights)
    assert next(each.probability for each in result.labels if each.label == "hum") == pytest.approx(mean, abs=1e-5)
    with Image.open(tmp_path / "out" / "long" / "classify.png") as picture:
        assert picture.width > 500


def test_done_before_is_not_done_again(folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0, 16_000), 16_000)

    def run(**asked: object) -> bool:
        return auriscope.classify(tmp_path / "a.wav", tmp_path / "out", model=folder, **asked)[0].resumed  # type: ignore[arg-type]

    assert [run(), run(), run(force=True), run(top=1), run(top=1)] == [False, True, False, False, True]
    (tmp_path / "out" / "a" / "classify.png").unlink()
    assert not run(top=1)


def test_what_is_wrong_with_one_file_stops_no_other(folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(20_000), 16_000)
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "good.wav", noise(0.3, 16_000), 16_000)
    names = ("silent.wav", "text.wav", "missing.wav", "good.wav")
    paths = [str(tmp_path / name) for name in names]
    ran = CliRunner().invoke(app, ["classify", *paths, "--model", str(folder), "--out", str(tmp_path / "o"), "--json"])
    assert ran.exit_code == 1
    printed = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [each["input"] for each in printed] == paths
    assert printed[0]["error"].endswith("silent.wav: is silent: there is nothing in it to classify")
    assert "not audio that can be read" in printed[1]["error"]
    assert "missing.wav" in printed[2]["error"]
    assert {"input", "model", "labels", "windows", "duration_seconds", "files", "resumed"} == set(printed[3])
    assert set(printed[3]["labels"][0]) == {"label", "probability"}
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["good"]
    ran = CliRunner().invoke(app, ["classify", paths[3], "--model", str(folder), "--window", "0.1"])
    assert ran.exit_code == 0, ran.output
    assert " to 0.3 s: " in ran.stdout


def test_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ImageCNN(ImageCNNConfig()).eval()
    model.save_pretrained(tmp_path / "model")
    pixels = np.random.default_rng(0).integers(0, 255, (28, 28), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(pixels).save(tmp_path / "pictures" / "a.png")
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "pictures" / "blank.png")
    found, blank = auriscope.classify(tmp_path / "pictures", tmp_path / "out", model=tmp_path / "model", top=10)
    with torch.inference_mode():
        expected = model.predict_proba(torch.from_numpy(pixels)[None, None] / 255)[0]
    assert {each.label: each.probability for each in found.labels} == pytest.approx(
        dict(zip(model.labels, expected.tolist(), strict=True)), abs=1e-6
    )
    assert (found.windows, found.duration_seconds) == ((), None)
    assert [Path(name).name for name in found.files] == ["classify.json"]
    assert blank.error is not None
    assert blank.error.endswith("blank.png: is blank: there is nothing in it to classify")


def test_what_is_wrong_with_the_call(folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0, 16_000), 16_000)
    with pytest.raises(AuriscopeError, match=r"speaker/ecapa\.mini does not classify"):
        auriscope.classify(tmp_path / "a.wav", model="speaker/ecapa.mini")
    with pytest.raises(AuriscopeError, match="too short to tell classes"):
        auriscope.classify(tmp_path / "a.wav", model=folder, window_seconds=0.0)
    with pytest.raises(AuriscopeError, match="0 classes are none"):
        auriscope.classify(tmp_path / "a.wav", model=folder, top=0)
    # Nothing can be told with one class.
    place = folder / "config.json"
    values = json.loads(place.read_text())
    values["config"]["labels"] = ["hum"]
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.json").write_text(json.dumps(values))
    (tmp_path / "one" / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(AuriscopeError, match="labels must name at least two classes, not 1"):
        auriscope.classify(tmp_path / "a.wav", model=tmp_path / "one")
