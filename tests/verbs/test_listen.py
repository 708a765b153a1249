"""The verb listen as a function: what it gives, what it repeats, and what it leaves behind."""

from __future__ import annotations

import json
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from auriscope.errors import AuriscopeError
from auriscope.quality import SiSnrEstimator
from auriscope.separation import ConvTasNet
from auriscope.verbs.batch import Progress, expand_inputs
from auriscope.verbs.listen import ListenResult, listen

RATE = 8000


class Split:
    """Separates what lies below 1 kHz from what lies above, which is exact for the voices below."""

    config = types.SimpleNamespace(sample_rate=RATE, num_sources=2)

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(mixture)
        low = torch.fft.rfftfreq(mixture.shape[-1], 1 / RATE) < 1000
        size = mixture.shape[-1]
        return torch.stack([torch.fft.irfft(spectrum * low, size), torch.fft.irfft(spectrum * ~low, size)], dim=1)


@pytest.fixture(scope="module")
def estimator() -> SiSnrEstimator:
    torch.manual_seed(0)
    return SiSnrEstimator.from_config({**SiSnrEstimator.Tiny, "sample_rate": RATE}).eval()


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory, estimator: SiSnrEstimator) -> dict[str, Path]:
    """Models in folders: only those can be known again."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    ConvTasNet.from_config({**ConvTasNet.Tiny, "sample_rate": RATE}).save_pretrained(folder / "separator")
    estimator.save_pretrained(folder / "estimator")
    return {"model": folder / "separator", "quality_model": folder / "estimator"}


@pytest.fixture
def hear(estimator: SiSnrEstimator, tmp_path: Path) -> Callable[..., list[ListenResult]]:
    """Listen with the models of this module, into ``tmp_path / "out"``."""

    def run(inputs: Any, **options: Any) -> list[ListenResult]:
        return listen(inputs, tmp_path / "out", **{"model": Split(), "quality_model": estimator, **options})

    return run


def talk(path: Path, seconds: float = 6.0, seed: int = 0) -> Path:
    """Two voices: one below 1 kHz in the first two thirds, one above in the last two thirds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(size))
    low = np.fft.rfftfreq(size, 1 / RATE) < 900
    high = np.fft.rfftfreq(size, 1 / RATE) > 1100
    voices = [np.fft.irfft(spectrum * band, size) * 0.1 for band in (low, high)]
    voices[0][2 * size // 3 :] = 0
    voices[1][: size // 3] = 0
    soundfile.write(path, voices[0] + voices[1], RATE, subtype="FLOAT")
    return path


def test_who_is_heard_when(hear: Callable[..., Any], tmp_path: Path) -> None:
    (result,) = hear(talk(tmp_path / "talk.wav"))
    assert result.error is None
    assert result.num_speakers == 2
    assert result.duration_seconds == 6.0
    heard = [[(turn.start_seconds, turn.end_seconds) for turn in track.turns] for track in result.tracks]
    ((first,), (second,)) = sorted(heard)
    assert first == pytest.approx((0.0, 4.0), abs=0.15)
    assert second == pytest.approx((2.0, 6.0), abs=0.15)
    assert all(track.text is None for track in result.tracks)
    assert {path.name for path in (tmp_path / "out" / "talk").iterdir()} == {
        "report.html", "report.json", "separate.json", "track1.wav", "track2.wav",
    }  # fmt: skip


def test_the_record_says_what_the_result_says(hear: Callable[..., Any], tmp_path: Path) -> None:
    (result,) = hear(talk(tmp_path / "talk.wav"))
    values = json.loads(Path(result.report).with_suffix(".json").read_text())
    assert values["schema_version"] == 1
    assert values.keys() >= {"input", "report", "num_speakers", "tracks", "warnings", "model", "quality_model"}
    assert [track["path"] for track in values["tracks"]] == ["track1.wav", "track2.wav"]
    assert values["tracks"][0].keys() >= {"blind_si_snr_db", "expected_error_db", "text", "turns", "in_range"}
    assert values["tracks"][0]["blind_si_snr_db"] == result.tracks[0].blind_si_snr_db
    assert "--speakers 2" in values["command"]


def test_what_is_done_is_not_done_again(
    hear: Callable[..., Any], addresses: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = talk(tmp_path / "talk.wav")
    (first,) = hear(path, **addresses)
    (forced,) = hear(path, **addresses, force=True)
    assert not first.resumed
    assert not forced.resumed
    monkeypatch.setattr("auriscope.verbs.listen.judge", None)
    monkeypatch.setattr("auriscope.verbs.listen.write_page", None)
    (second,) = hear(path, **addresses)
    assert second.error is None
    assert second.resumed
    assert second.tracks == forced.tracks


def test_what_has_changed_is_done_again(hear: Callable[..., Any], addresses: dict[str, Path], tmp_path: Path) -> None:
    path = talk(tmp_path / "talk.wav")
    (result,) = hear(path, **addresses)
    page, record = Path(result.report), Path(result.report).with_suffix(".json")

    def again(**options: Any) -> ListenResult:
        (result,) = hear(path, **{**addresses, **options})
        assert result.error is None
        assert page.is_file()
        assert all(Path(track.path).is_file() for track in result.tracks)
        return result

    talk(path, seed=1)
    os.utime(path, ns=(1, 1))
    assert not again().resumed
    page.unlink()
    assert not again().resumed
    Path(result.tracks[0].path).unlink()
    assert not again().resumed
    record.write_text('{"schema_version": 1')
    assert not again().resumed
    assert not again(embed_seconds=1.0).resumed
    assert again(embed_seconds=1.0).resumed


def test_long_sound_lies_beside_and_is_no_recording(hear: Callable[..., Any], tmp_path: Path) -> None:
    path = talk(tmp_path / "in" / "talk.wav")
    (result,) = hear(path, embed_seconds=5.0)
    folder = Path(result.report).parent
    assert result.sounds == ("recording.opus", "track1.opus", "track2.opus")
    for name in result.sounds:
        assert soundfile.info(folder / name).duration == pytest.approx(6.0, abs=0.05)
    assert Path(result.report).stat().st_size < 600_000
    assert expand_inputs([tmp_path]) == [path]


def test_a_failure_late_leaves_nothing(
    hear: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [talk(tmp_path / f"{name}.wav") for name in ("a", "b", "c")]
    import auriscope.verbs.listen as module

    def fail(result: ListenResult, *arguments: Any, **options: Any) -> None:
        if "b.wav" in result.input:
            (tmp_path / "out" / "b" / "report.html").write_text("half")
            raise OSError(28, "No space left on device")
        written(result, *arguments, **options)

    written = module.write_page
    monkeypatch.setattr(module, "write_page", fail)
    results = hear(paths)
    assert [result.error is None for result in results] == [True, False, True]
    assert "No space left on device" in results[1].error
    assert results[1].to_dict().keys() == {"input", "error"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "c"]


def test_progress_only_grows(hear: Callable[..., Any], tmp_path: Path) -> None:
    seen: list[Progress] = []
    hear([talk(tmp_path / "a.wav"), talk(tmp_path / "b.wav")], progress=seen.append)
    fractions = [state.total_fraction for state in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert {"separating", "judging", "writing the page"} <= {state.stage for state in seen}


def test_one_talker_is_said(hear: Callable[..., Any], tmp_path: Path) -> None:
    (result,) = hear(talk(tmp_path / "talk.wav"), model=None, speakers=1)
    assert result.error is None
    assert result.model is None
    assert len(result.tracks) == 1
    assert any("single talker" in warning for warning in result.warnings)
    assert "One talker" in Path(result.report).read_text()


def test_a_wrong_quality_model_costs_no_work(hear: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match="did you mean"):
        hear(talk(tmp_path / "talk.wav"), quality_model="quality/sisn")
    assert not (tmp_path / "out").exists()


def test_results_come_one_by_one_in_order(hear: Callable[..., Any], tmp_path: Path) -> None:
    paths = [talk(tmp_path / "b.wav"), tmp_path / "missing.wav", talk(tmp_path / "a.wav")]
    seen: list[ListenResult] = []
    results = hear(paths, on_result=seen.append)
    assert seen == results
    assert [result.input for result in results] == [str(path) for path in paths]
    assert [result.error is None for result in results] == [True, False, True]
