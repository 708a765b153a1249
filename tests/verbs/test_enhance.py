"""The verb enhance: what it writes, at which level, what it repeats; and separate and listen that enhance first."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from auriscope.errors import AuriscopeError
from auriscope.quality import SiSnrEstimator
from auriscope.separation import ConvTasNet
from auriscope.verbs.batch import expand_inputs
from auriscope.verbs.enhance import RECORD, EnhanceResult, enhance
from auriscope.verbs.listen import listen
from auriscope.verbs.separate import separate

RATE = 8000


class Gate:
    """Takes for speech what lies below 1 kHz; of the rest a hundredth is left."""

    config = types.SimpleNamespace(sample_rate=RATE, num_sources=1)

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(mixture)
        gain = torch.where(torch.fft.rfftfreq(mixture.shape[-1], 1 / RATE) < 1000, 1.0, 0.01)
        return torch.fft.irfft(spectrum * gain, mixture.shape[-1])[:, None]


class Pair:
    """Two talkers: below and above 500 Hz."""

    config = types.SimpleNamespace(sample_rate=RATE, num_sources=2)

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        spectrum, size = torch.fft.rfft(mixture), mixture.shape[-1]
        low = torch.fft.rfftfreq(size, 1 / RATE) < 500
        return torch.stack([torch.fft.irfft(spectrum * low, size), torch.fft.irfft(spectrum * ~low, size)], dim=1)


def tone(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def recording(
    path: Path, *, rate: int = RATE, seconds: float = 20.0, channels: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Speech (a low tone) for the first half, noise (a high tone) all the time."""
    speech = 0.2 * tone(250.0, seconds, rate)
    speech[len(speech) // 2 :] = 0.0
    noise = 0.05 * tone(2500.0, seconds, rate)
    soundfile.write(path, np.stack([speech + noise] * channels, axis=1), rate, subtype="FLOAT")
    return speech, noise


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (11_025, 2)])
def test_the_noise_goes_and_the_speech_keeps_its_level(tmp_path: Path, rate: int, channels: int) -> None:
    speech, noise = recording(tmp_path / "talk.wav", rate=rate, channels=channels)
    (result,) = enhance(tmp_path / "talk.wav", tmp_path / "out", model=Gate())
    assert result == EnhanceResult(
        input=str(tmp_path / "talk.wav"),
        model="Gate",
        sample_rate=rate,
        tracks=(str(tmp_path / "out" / "talk" / "enhanced.wav"),),
        duration_seconds=20.0,
    )
    enhanced, written = soundfile.read(result.tracks[0])
    assert (len(enhanced), written) == (len(speech), rate)
    middle = slice(rate, 9 * rate)
    assert np.abs(enhanced - speech)[middle].max() < 0.02
    # Where only noise sounds, what the model leaves of it is not brought back to the level of the noise.
    end = slice(13 * rate, 19 * rate)
    assert np.abs(enhanced[end]).max() == pytest.approx(0.01 * np.abs(noise[end]).max(), rel=0.2)


def test_one_bad_file_stops_no_other(tmp_path: Path) -> None:
    recording(tmp_path / "one.wav", seconds=1.0)
    (tmp_path / "two.wav").write_bytes(b"nothing to hear")
    recording(tmp_path / "three.wav", seconds=1.0)
    told: list[EnhanceResult] = []
    paths = [tmp_path / f"{name}.wav" for name in ("one", "two", "three")]
    results = enhance(paths, tmp_path / "out", model=Gate(), on_result=told.append)
    assert told == results
    assert [result.error is None for result in results] == [True, False, True]
    assert results[1].to_dict() == {"input": str(paths[1]), "error": results[1].error}
    assert "two.wav" in str(results[1].error)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one", "three"]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = {**ConvTasNet.Tiny, "sample_rate": RATE, "num_sources": 1}
    ConvTasNet.from_config(config).save_pretrained(tmp_path / "model")
    recording(tmp_path / "talk.wav", seconds=1.0)
    runs = [
        enhance(tmp_path / "talk.wav", tmp_path / "out", model=tmp_path / "model", **options)[0]
        for options in ({}, {}, {"force": True}, {"channel": 0})
    ]
    assert [run.error for run in runs] == [None] * 4
    assert [run.resumed for run in runs] == [False, True, False, False]
    record = json.loads((tmp_path / "out" / "talk" / RECORD).read_text())
    assert record["tracks"] == ["enhanced.wav"]


def test_a_model_of_two_talkers_does_not_enhance(tmp_path: Path) -> None:
    recording(tmp_path / "talk.wav", seconds=1.0)
    for verb, options in ((enhance, {"model": Pair()}), (separate, {"model": Pair(), "enhancer": Pair()})):
        with pytest.raises(AuriscopeError, match="Pair separates 2 talkers and does not enhance"):
            verb(tmp_path / "talk.wav", tmp_path / "out", **options)  # type: ignore[operator]


def test_separate_can_enhance_first(tmp_path: Path) -> None:
    speech, _ = recording(tmp_path / "talk.wav", seconds=4.0)
    (result,) = separate(tmp_path / "talk.wav", tmp_path / "out", model=Pair(), enhancer=Gate())
    folder = tmp_path / "out" / "talk"
    assert (result.error, result.enhancer) == (None, "Gate")
    assert {path.name for path in folder.iterdir()} == {"enhanced.wav", "separate.json", "track1.wav", "track2.wav"}
    enhanced, _ = soundfile.read(folder / "enhanced.wav")
    assert np.abs(enhanced - speech)[RATE // 2 : RATE].max() < 0.02
    together = sum(soundfile.read(track)[0] for track in result.tracks)
    assert np.abs(together - enhanced).max() < 0.02
    # The tracks and the enhanced recording of an earlier run are no recordings.
    assert expand_inputs([tmp_path]) == [tmp_path / "talk.wav"]
    separate(tmp_path / "talk.wav", tmp_path / "out", model=Pair())
    assert {path.name for path in folder.iterdir()} == {"separate.json", "track1.wav", "track2.wav"}


def test_the_page_has_the_enhanced_recording(tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge: Any = SiSnrEstimator.from_config({**SiSnrEstimator.Tiny, "sample_rate": RATE}).eval()
    recording(tmp_path / "talk.wav", seconds=4.0)
    models = {"model": Pair(), "quality_model": judge}
    (result,) = listen(tmp_path / "talk.wav", tmp_path / "out", enhancer=Gate(), **models)
    assert (result.error, result.enhancer) == (None, "Gate")
    assert result.enhanced == str(tmp_path / "out" / "talk" / "enhanced.wav")
    page = Path(result.report).read_text()
    assert 'aria-label="Play the enhanced recording"' in page
    assert "<dt>Enhancement model</dt><dd>Gate</dd>" in page
    assert "--enhance" in result.command
    values = json.loads(Path(result.report).with_suffix(".json").read_text())
    assert (values["enhanced"], values["enhancer"]) == ("enhanced.wav", "Gate")
    (plain,) = listen(tmp_path / "talk.wav", tmp_path / "plain", **models)
    assert (plain.enhanced, plain.enhancer) == (None, None)
    assert "the enhanced recording" not in Path(plain.report).read_text()
