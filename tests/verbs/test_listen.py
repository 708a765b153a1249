"""The verb listen as a function: what it gives, what it repeats, and what it leaves behind."""

from __future__ import annotations

import dataclasses
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

from auriscope.data.synthetic import voice
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.pretrained.card import ModelCard
from auriscope.quality import SiSnrEstimator
from auriscope.recognition import ConformerCTC
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
        return listen(
            inputs, tmp_path / "out", **{"model": Split(), "quality_model": estimator, "recognizer": False, **options}
        )

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


@pytest.fixture(scope="module")
def recognizers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two recognisers of random weights that write much."""
    folders = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = ConformerCTC.from_config({**ConformerCTC.Tiny, "sample_rate": RATE})
        model.head.weight.data.mul_(40.0)
        card = ModelCard("Random", "Of nothing.", "CC0-1.0", metrics={"word_error_percent nothing": 99.4})
        folders.append(tmp_path_factory.mktemp("models") / f"recognizer-{seed}")
        model.save_pretrained(folders[-1], card=card)
    return folders


def voices(path: Path) -> Path:
    """Two voices, one after the other."""
    parts = [voice(speaker, 0, seconds=3.0, sample_rate=RATE) for speaker in (1, 2)]
    soundfile.write(path, np.concatenate(parts), RATE, subtype="FLOAT")
    return path


def test_what_each_talker_says_is_written_down(
    hear: Callable[..., Any], recognizers: list[Path], tmp_path: Path
) -> None:
    (result,) = hear(voices(tmp_path / "talk.wav"), recognizer=recognizers[0])
    assert result.error is None
    assert result.recognizer == str(recognizers[0])
    assert any(track.text for track in result.tracks)
    values = json.loads(Path(result.report).with_suffix(".json").read_text())
    for track, written in zip(result.tracks, values["tracks"], strict=True):
        assert written["text"] == track.text == " ".join(word.word for word in track.words)
        assert written["words"] == [dataclasses.asdict(word) for word in track.words]
        for word in track.words:
            # A word is said in a turn, give or take what is kept before and after it.
            assert any(turn.start_seconds - 1.6 < word.start_seconds < turn.end_seconds + 1.6 for turn in track.turns)
            assert 0.0 <= word.start_seconds <= word.end_seconds <= 6.0
    assert f"--recognizer {recognizers[0]}" in values["command"]
    page = Path(result.report).read_text()
    assert "What is said" in page
    assert "expect a word error of 99 % (nothing)" in page
    assert page.count("data-from=") == sum(len(track.words) for track in result.tracks)


def test_another_recogniser_is_noticed(
    hear: Callable[..., Any], addresses: dict[str, Path], recognizers: list[Path], tmp_path: Path
) -> None:
    path = voices(tmp_path / "talk.wav")

    def again(recognizer: Any) -> ListenResult:
        # One talker is given back as they are, so that there is a voice to be heard.
        (result,) = hear(path, **{**addresses, "model": None}, speakers=1, recognizer=recognizer)
        assert result.error is None
        return result

    first = again(recognizers[0])
    second = again(recognizers[0])
    assert (first.resumed, second.resumed) == (False, True)
    assert second.tracks == first.tracks
    other = again(recognizers[1])
    assert not other.resumed
    assert [track.text for track in other.tracks] != [track.text for track in first.tracks]
    none = again(False)
    assert not none.resumed
    assert [track.text for track in none.tracks] == [None]
    assert "What is said" not in Path(none.report).read_text()
    # One that is handed in cannot be known again.
    model = load(recognizers[0])
    assert not again(model).resumed
    assert not again(model).resumed


def test_a_recogniser_that_is_none_costs_no_work(hear: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match="is no recogniser"):
        hear(talk(tmp_path / "talk.wav"), recognizer="separation/bandsplit.mini")
    assert not (tmp_path / "out").exists()


def test_silence_is_written_as_nothing(hear: Callable[..., Any], recognizers: list[Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(2 * RATE), RATE)
    (result,) = hear(tmp_path / "silence.wav", recognizer=recognizers[0])
    assert result.error is None
    assert [track.text for track in result.tracks] == ["", ""]
