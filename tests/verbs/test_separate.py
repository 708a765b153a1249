from __future__ import annotations

import json
import os
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auriscope.errors import AuriscopeError
from auriscope.separation import ConvTasNet
from auriscope.separation.counter import TalkerCountNet
from auriscope.signal.files import read, write
from auriscope.verbs.batch import expand_inputs, result_folders
from auriscope.verbs.compare import CompareOptions, compare
from auriscope.verbs.separate import RECORD, separate

RATE = 8000


class Halves:
    """Gives seven and three tenths of the mixture."""

    config = types.SimpleNamespace(sample_rate=RATE, num_sources=2)

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        return torch.stack([0.7 * mixture, 0.3 * mixture], dim=1)


class Broken(Halves):
    """Fails at its second chunk, in the middle of a file."""

    def __init__(self, error: Exception) -> None:
        self.error, self.calls = error, 0

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls > 1:
            raise self.error
        return super().__call__(mixture)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    ConvTasNet.from_config({**ConvTasNet.Tiny, "sample_rate": RATE}).save_pretrained(folder)
    return folder


def noise(seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    shape = (round(seconds * rate), channels)
    return np.random.default_rng(seed).normal(0.0, 0.1, shape).astype(np.float32)


def recording(
    path: Path, seconds: float = 1.0, rate: int = RATE, channels: int = 1, subtype: str | None = None
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seconds, rate, channels, seed=len(path.name)), rate, subtype=subtype)
    return path


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_recording_becomes_tracks_of_its_rate_length_and_level(tmp_path, weights):
    path = recording(tmp_path / "talk.wav", 20.0, 44100)
    [result] = separate(path, tmp_path / "out", model=weights)
    assert result.error is None
    assert result.model == str(weights)
    assert result.num_speakers == 2
    assert [Path(track).name for track in result.tracks] == ["track1.wav", "track2.wav"]
    for track in result.tracks:
        info = soundfile.info(track)
        assert (info.samplerate, info.frames, info.subtype) == (44100, 20 * 44100, "FLOAT")
    assert set(result.to_dict()) >= {"input", "model", "sample_rate", "tracks"}
    assert "error" not in json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert contents(tmp_path / "out") == ["talk", "talk/separate.json", "talk/track1.wav", "talk/track2.wav"]


def test_tracks_sum_to_the_recording_and_may_exceed_full_scale(tmp_path):
    loud = 3.0 * np.sin(2 * np.pi * 300 * np.arange(3 * RATE) / RATE).astype(np.float32)
    write(tmp_path / "loud.wav", loud, RATE, subtype="FLOAT")
    [result] = separate(tmp_path / "loud.wav", tmp_path / "out", model=Halves())
    tracks = [read(track)[0] for track in result.tracks]
    assert max(np.abs(track).max() for track in tracks) > 1.0
    np.testing.assert_allclose(sum(tracks), loud, atol=0.01)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("a.wav", 8000, 8, "PCM_16"),
        ("a.wav", 192000, 1, "PCM_24"),
        ("a.wav", 48000, 2, "FLOAT"),
        ("a.flac", 96000, 2, "PCM_24"),
        ("a.ogg", 16000, 1, None),
        ("a.mp3", 44100, 2, None),
        ("a.wav", 11025, 1, "PCM_U8"),
        ("a.wav", 48000, 1, "DOUBLE"),
    ],
)
def test_every_kind_of_recording_works(tmp_path, name, rate, channels, subtype):
    path = recording(tmp_path / name, 0.7, rate, channels, subtype)
    expected, _ = read(path)
    [result] = separate([path], tmp_path / "out", model=Halves())
    assert result.error is None
    assert result.sample_rate == rate
    for track in result.tracks:
        assert soundfile.info(track).frames == len(expected)


def test_a_channel_can_be_chosen(tmp_path):
    stereo = noise(1.0, channels=2)
    stereo[:, 0] = 0.0
    soundfile.write(tmp_path / "stereo.wav", stereo, RATE, subtype="FLOAT")
    [left] = separate(tmp_path / "stereo.wav", tmp_path / "left", model=Halves(), channel=0)
    [right] = separate(tmp_path / "stereo.wav", tmp_path / "right", model=Halves(), channel=1)
    assert left.warnings == ("the recording is silent",)
    np.testing.assert_allclose(sum(read(track)[0] for track in right.tracks), stereo[:, 1], atol=1e-3)
    [missing] = separate(tmp_path / "stereo.wav", tmp_path / "third", model=Halves(), channel=2)
    assert "channel 2" in (missing.error or "")


def test_digital_silence_and_ten_samples_give_a_result_with_a_warning(tmp_path, weights):
    soundfile.write(tmp_path / "silent.wav", np.zeros(3 * RATE, np.float32), RATE)
    soundfile.write(tmp_path / "ten.wav", noise(1.0)[:10], RATE)
    silent, ten = separate([tmp_path / "silent.wav", tmp_path / "ten.wav"], tmp_path / "out", model=weights)
    assert "silent" in silent.warnings[0]
    assert not read(silent.tracks[0])[0].any()
    assert "10 samples" in ten.warnings[0]
    assert [soundfile.info(track).frames for track in ten.tracks] == [10, 10]


def test_clipping_and_a_track_without_a_talker_are_told(tmp_path):
    clipped = np.clip(20.0 * noise(2.0), -1.0, 1.0)
    soundfile.write(tmp_path / "clipped.wav", clipped, RATE)

    class Lopsided(Halves):
        def __call__(self, mixture):
            return torch.stack([mixture, 1e-3 * torch.roll(mixture, 1000)], dim=1)

    [result] = separate(tmp_path / "clipped.wav", tmp_path / "out", model=Lopsided())
    assert "clipped" in result.warnings[0]
    assert "track 2 is almost silent" in result.warnings[1]


def bad_files(folder: Path) -> dict[str, Path]:
    """Every kind of input that cannot be separated."""
    folder.mkdir()
    files = {
        kind: folder / f"{kind}.wav" for kind in ("missing", "empty", "text", "header", "no_samples", "nan", "inf")
    }
    files["empty"].write_bytes(b"")
    files["text"].write_text("this is not audio\n" * 100)
    soundfile.write(files["no_samples"], np.zeros(0, np.float32), RATE)
    files["header"].write_bytes(recording(folder / "whole.wav").read_bytes()[:44])
    for kind, value in (("nan", np.nan), ("inf", np.inf)):
        waveform = noise(15.0)
        waveform[-5] = value
        soundfile.write(files[kind], waveform, RATE, subtype="FLOAT")
    return files


def test_bad_inputs_give_one_line_each_and_stop_no_other(tmp_path):
    files = bad_files(tmp_path / "in")
    good = recording(tmp_path / "in" / "good.wav")
    results = separate([*files.values(), good], tmp_path / "out", model=Halves())
    assert [result.input for result in results] == [str(path) for path in [*files.values(), good]]
    for result, path in zip(results, files.values(), strict=False):
        assert result.to_dict() == {"input": str(path), "error": result.error}
        assert result.error
        assert path.name in result.error
        assert "\n" not in result.error
    assert results[-1].error is None
    assert contents(tmp_path / "out") == ["good", "good/separate.json", "good/track1.wav", "good/track2.wav"]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), AuriscopeError("a line"), OSError(28, "No space left")])
def test_a_failure_in_the_middle_leaves_nothing_behind(tmp_path, error):
    path = recording(tmp_path / "long.wav", 30.0)
    [result] = separate(path, tmp_path / "out", model=Broken(error))
    assert result.error is not None
    assert contents(tmp_path / "out") == []


def test_an_interrupt_leaves_nothing_behind(tmp_path):
    path = recording(tmp_path / "long.wav", 30.0)
    with pytest.raises(KeyboardInterrupt):
        separate(path, tmp_path / "out", model=Broken(KeyboardInterrupt()))  # type: ignore[arg-type]
    assert contents(tmp_path / "out") == []


def test_a_failure_keeps_the_results_of_the_run_before(tmp_path):
    path = recording(tmp_path / "long.wav", 30.0)
    [before] = separate(path, tmp_path / "out", model=Halves())
    old = [read(track)[0] for track in before.tracks]
    separate(path, tmp_path / "out", model=Broken(RuntimeError("a bug")))
    for track, waveform in zip(before.tracks, old, strict=True):
        np.testing.assert_array_equal(read(track)[0], waveform)
    assert not [name for name in contents(tmp_path / "out") if "part" in name]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_permission_is_refused(tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(AuriscopeError, match="permission"):
        separate(recording(tmp_path / "a.wav"), tmp_path / "out", model=Halves())


def test_an_output_folder_that_is_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "out").write_text("occupied")
    with pytest.raises(AuriscopeError, match="out"):
        separate(recording(tmp_path / "a.wav"), tmp_path / "out", model=Broken(RuntimeError()))
    assert (tmp_path / "out").read_text() == "occupied"


def test_settings_that_cannot_be_met_are_refused_at_once(tmp_path, weights):
    path = recording(tmp_path / "a.wav")
    with pytest.raises(AuriscopeError, match="separates 2 talkers, not 3"):
        separate(path, tmp_path / "out", model=weights, speakers=3)
    with pytest.raises(AuriscopeError, match="speakers must be"):
        separate(path, tmp_path / "out", model=weights, speakers=0)
    with pytest.raises(AuriscopeError, match="convtasnet"):
        separate(path, tmp_path / "out", model="separation/convtasnett.x")
    (weights.parent / "damaged").mkdir()
    (weights.parent / "damaged" / "config.json").write_text("{")
    with pytest.raises(AuriscopeError, match="damaged"):
        separate(path, tmp_path / "out", model=weights.parent / "damaged")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(AuriscopeError, match="no audio"):
        separate(tmp_path / "nothing", tmp_path / "out", model=weights)
    assert not (tmp_path / "out").exists()


def test_one_talker_needs_no_separation(tmp_path):
    path = recording(tmp_path / "a.wav", 1.0, 22050, 2, "FLOAT")
    [result] = separate(path, tmp_path / "out", speakers=1)
    assert result.model is None
    assert result.num_speakers == 1
    np.testing.assert_array_equal(read(result.tracks[0])[0], read(path)[0])


def test_inputs_with_the_same_name_never_meet(tmp_path):
    paths = [
        recording(tmp_path / "one" / "talk.wav", 1.0),
        recording(tmp_path / "two" / "talk.wav", 2.0),
        recording(tmp_path / "one" / "talk.flac", 3.0),
        recording(tmp_path / "three" / "TALK.wav", 4.0),
    ]
    together = separate(paths, tmp_path / "together", model=Halves())
    apart = [separate(path, tmp_path / "apart", model=Halves())[0] for path in paths]
    for results in (together, apart):
        assert [soundfile.info(result.tracks[0]).frames for result in results] == [RATE, 2 * RATE, 3 * RATE, 4 * RATE]
        folders = [str(Path(result.tracks[0]).parent).casefold() for result in results]
        assert len(set(folders)) == 4
    # In another order every input still finds its own folder.
    again = separate(paths[::-1], tmp_path / "apart", model=Halves())
    assert [result.tracks for result in again[::-1]] == [result.tracks for result in apart]


def test_a_folder_that_belongs_to_somebody_else_is_left_alone(tmp_path):
    path = recording(tmp_path / "talk.wav")
    (tmp_path / "out" / "talk").mkdir(parents=True)
    (tmp_path / "out" / "talk" / "track1.wav").write_text("mine")
    [result] = separate(path, tmp_path / "out", model=Halves())
    assert (tmp_path / "out" / "talk" / "track1.wav").read_text() == "mine"
    assert Path(result.tracks[0]).parent.name.startswith("talk-")


def test_results_of_another_verb_for_the_same_input_stay(tmp_path):
    path = recording(tmp_path / "talk.wav")
    folder = tmp_path / "out" / "talk"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"source": {"path": str(path.resolve())}}))
    [result] = separate(path, tmp_path / "out", model=Halves())
    assert Path(result.tracks[0]).parent == folder
    assert (folder / "report.json").is_file()


def test_folders_are_searched_without_our_own_tracks(tmp_path):
    recording(tmp_path / "in" / "a.wav")
    recording(tmp_path / "in" / "deep" / "b.flac")
    first = separate(tmp_path / "in", tmp_path / "in", model=Halves())
    assert [Path(result.input).name for result in first] == ["a.wav", "b.flac"]
    second = separate(tmp_path / "in", tmp_path / "in", model=Halves())
    assert [result.input for result in second] == [result.input for result in first]
    assert expand_inputs(first[0].tracks[0]) == [Path(first[0].tracks[0])]


def test_what_is_done_is_not_done_again_unless_something_changed(tmp_path, weights):
    path = recording(tmp_path / "talk.wav")
    [first] = separate(path, tmp_path / "out", model=weights)
    stamp = Path(first.tracks[0]).stat().st_mtime_ns

    def run(**settings):
        [result] = separate(path, tmp_path / "out", **{"model": weights, **settings})
        return result.resumed

    assert not first.resumed
    assert run()
    assert Path(first.tracks[0]).stat().st_mtime_ns == stamp
    assert not run(force=True)
    assert not run(channel=0)
    assert not run()
    Path(first.tracks[1]).unlink()
    assert not run()
    recording(path, 2.0)
    assert not run()
    assert run()
    (tmp_path / "out" / "talk" / RECORD).write_text("{")
    results = separate(path, tmp_path / "out", model=weights)
    assert not results[0].resumed


def test_tracks_that_are_no_longer_part_of_the_result_go(tmp_path, weights):
    path = recording(tmp_path / "talk.wav")
    [two] = separate(path, tmp_path / "out", model=weights)
    [one] = separate(path, tmp_path / "out", speakers=1)
    assert Path(one.tracks[0]).parent == Path(two.tracks[0]).parent
    assert contents(tmp_path / "out" / "talk") == ["separate.json", "track1.wav"]


def test_progress_rises_to_one_and_results_come_as_they_are_done(tmp_path):
    paths = [recording(tmp_path / "a.wav", 30.0), tmp_path / "missing.wav", recording(tmp_path / "b.wav", 20.0)]
    seen: list[float] = []
    results: list[str] = []
    separate(
        paths,
        tmp_path / "out",
        model=Halves(),
        progress=lambda state: seen.append(state.total_fraction),
        on_result=lambda result: results.append(result.input),
    )
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)
    assert len(set(seen)) > 6
    assert results == [str(path) for path in paths]


def test_unusual_names_get_folders(tmp_path):
    paths = [tmp_path / "a.b.wav", tmp_path / "-x.wav", tmp_path / "ü n.wav", tmp_path / " . .wav"]
    folders = result_folders(paths, tmp_path / "out")
    assert len(set(folders)) == 4
    assert all(folder.parent == tmp_path / "out" for folder in folders)
    results = separate([recording(path) for path in paths], tmp_path / "out", model=Halves())
    assert [result.error for result in results] == [None] * 4


def test_a_count_head_separates_nothing(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "head"
    TalkerCountNet.from_config(TalkerCountNet.Tiny).save_pretrained(folder)
    with pytest.raises(AuriscopeError, match="head counts talkers and does not separate"):
        separate(recording(tmp_path / "a.wav"), tmp_path / "out", model=folder)
    with pytest.raises(AuriscopeError, match="head counts talkers and does not separate"):
        compare([str(folder)], ["libri2mix-mini-clean"], tmp_path / "table", CompareOptions(durations_seconds=()))


def counter(path: Path, weights: Path, number: int) -> None:
    """A fitted counter that always gives ``number``: only its bias speaks."""
    from auriscope.separation.counting import CountClassifier

    names = ["2:level_db_2"]
    bias = np.where(np.arange(1, 5) == number, 9.0, 0.0)
    CountClassifier(
        names, [1, 2, 3, 4], np.zeros(1), np.ones(1), np.zeros((4, 1)), bias, separators=[str(weights)]
    ).save(path)


@pytest.mark.parametrize(("number", "tracks"), [(1, 1), (2, 2), (4, 2)])
def test_the_number_of_talkers_can_be_counted(tmp_path, weights, monkeypatch, number, tracks):
    counter(tmp_path / "counting.json", weights, number)
    monkeypatch.setattr("auriscope.verbs.talkers.SHIPPED_COUNTER", tmp_path / "counting.json")
    path = recording(tmp_path / "talk.wav", 5.0)
    [result] = separate(path, tmp_path / "out", model=weights, speakers="auto")
    assert result.error is None
    assert len(result.tracks) == tracks
    assert (result.num_speakers, result.at_least) == (min(number, 3), number == 4)
    text = " ".join(result.warnings)
    assert ("at least 3" in text) == ("separates 2" in text) == (number == 4)


def test_counting_without_a_counter_is_refused_at_once(tmp_path, weights, monkeypatch):
    monkeypatch.setattr("auriscope.verbs.talkers.SHIPPED_COUNTER", tmp_path / "none.json")
    with pytest.raises(AuriscopeError, match="no speaker counter"):
        separate(recording(tmp_path / "a.wav"), tmp_path / "out", model=weights, speakers="auto")


def test_an_excerpt_of_a_long_file_is_bounded_and_of_a_short_one_whole(tmp_path):
    from auriscope.verbs.talkers import EXCERPT_SECONDS, read_excerpt

    short = recording(tmp_path / "short.wav", 3.0, 16000)
    np.testing.assert_array_equal(read_excerpt(short, 16000), read(short)[0])
    long = recording(tmp_path / "long.wav", 400.0)
    assert EXCERPT_SECONDS <= len(read_excerpt(long, RATE)) / RATE <= EXCERPT_SECONDS + 15.0


def test_the_precision_is_part_of_what_is_remembered(tmp_path: Path) -> None:
    recording = tmp_path / "talk.wav"
    write(recording, (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32), 16_000)
    tracks = {}
    for precision in ("fp32", "bf16", "bf16"):
        (result,) = separate(recording, tmp_path / "out", model="separation/dprnn.mini", precision=precision)
        assert result.error is None
        assert result.resumed == (precision in tracks)
        tracks[precision], _ = read(result.tracks[0])
    difference = np.sqrt(np.mean((tracks["fp32"] - tracks["bf16"]) ** 2))
    assert 0 < difference < 0.1 * np.sqrt(np.mean(tracks["fp32"] ** 2))
    with pytest.raises(AuriscopeError, match="'fp8'; it must be one of fp32, bf16, int8"):
        separate(recording, tmp_path / "out", precision="fp8")  # type: ignore[arg-type]
