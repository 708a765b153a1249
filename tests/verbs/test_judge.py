from __future__ import annotations

import json
import math

import numpy as np
import pytest
import soundfile
import torch
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio, signal_distortion_ratio

from auriscope.data.synthetic import voice
from auriscope.errors import AudioFileError, AuriscopeError
from auriscope.quality import SiSnrConfig, SiSnrEstimator
from auriscope.verbs.judge import judge

RATE = 8000


@pytest.fixture(scope="module")
def estimator():
    """Untrained: what the files become, and not how good the numbers are, is tested here."""
    torch.manual_seed(0)
    return SiSnrEstimator(SiSnrConfig(**SiSnrEstimator.Tiny, sample_rate=RATE, window_seconds=1.0)).eval()


@pytest.fixture
def files(tmp_path):
    """A mixture of two voices of 2.6 s, tracks in which the other voice leaks, and the voices."""
    sources = np.stack([voice(number, 0, seconds=2.6, sample_rate=RATE) for number in range(2)])
    tracks = sources + np.array([[0.3], [0.1]], dtype=np.float32) * sources[::-1]
    names = {
        "mixture": sources.sum(0),
        "track1": tracks[0],
        "track2": tracks[1],
        "ref1": sources[0],
        "ref2": sources[1],
    }
    for name, waveform in names.items():
        _write(tmp_path / f"{name}.wav", waveform)
    return tmp_path


def _write(path, waveform, rate=RATE):
    soundfile.write(path, waveform, rate, subtype="FLOAT")


def _judge(folder, estimator, *tracks, **options):
    return judge(folder / "mixture.wav", [folder / f"{track}.wav" for track in tracks], model=estimator, **options)


def _load(path):
    return torch.from_numpy(soundfile.read(path, dtype="float64")[0])


def test_blind_scores_come_with_expected_errors_and_paths_as_given(files, estimator):
    result = _judge(files, estimator, "track1", "track2")
    assert result.mixture == str(files / "mixture.wav")
    assert [track.path for track in result.tracks] == [str(files / "track1.wav"), str(files / "track2.wav")]
    for track in result.tracks:
        assert math.isfinite(track.blind_si_snr_db)
        assert track.expected_error_db > 0
        assert track.si_snr_db is None
    keys = result.to_dict()["tracks"][0].keys()
    assert {"path", "blind_si_snr_db", "expected_error_db", "in_range", "warnings"} <= keys
    assert "si_snr_db" not in keys
    json.dumps(result.to_dict(), allow_nan=False)


def test_one_window_is_scored_as_the_estimator_scores_it(files, estimator):
    for name in ("mixture", "track1", "track2"):
        _write(files / f"{name}.wav", soundfile.read(files / f"{name}.wav", dtype="float32")[0][: RATE // 2])
    result = _judge(files, estimator, "track1", "track2")
    mixture, *tracks = (_load(files / f"{name}.wav").float() for name in ("mixture", "track1", "track2"))
    expected = estimator.predict(mixture[None], torch.stack(tracks)[None])
    assert [track.blind_si_snr_db for track in result.tracks] == pytest.approx(expected.score_db[0].tolist(), abs=1e-4)
    assert [track.expected_error_db for track in result.tracks] == pytest.approx(
        expected.expected_error_db[0].tolist(), abs=1e-4
    )


def test_exact_scores_equal_an_independent_library(files, estimator):
    references = [files / "ref1.wav", files / "ref2.wav"]
    result = _judge(files, estimator, "track1", "track2", references=references)
    mixture = _load(files / "mixture.wav")
    for number, track in enumerate(result.tracks, start=1):
        estimate, reference = _load(files / f"track{number}.wav"), _load(files / f"ref{number}.wav")
        si_snr = float(scale_invariant_signal_noise_ratio(estimate, reference))
        before = float(scale_invariant_signal_noise_ratio(mixture, reference))
        assert track.reference == str(references[number - 1])
        assert track.si_snr_db == pytest.approx(si_snr, abs=1e-3)
        assert track.si_snri_db == pytest.approx(si_snr - before, abs=1e-3)
        assert track.sdr_db == pytest.approx(float(signal_distortion_ratio(estimate, reference)), abs=1e-2)


def test_exact_scores_do_not_depend_on_the_blocks(files, estimator, monkeypatch):
    references = [files / "ref1.wav", files / "ref2.wav"]
    whole = _judge(files, estimator, "track1", "track2", references=references)
    monkeypatch.setattr("auriscope.verbs.judge._BLOCK_FRAMES", 300)
    blocks = _judge(files, estimator, "track1", "track2", references=references)
    for one, other in zip(whole.tracks, blocks.tracks, strict=True):
        for name in ("si_snr_db", "si_snri_db", "sdr_db"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-6)


def test_references_are_matched_in_the_best_order(files, estimator):
    straight = _judge(files, estimator, "track1", "track2", references=[files / "ref1.wav", files / "ref2.wav"])
    crossed = _judge(files, estimator, "track1", "track2", references=[files / "ref2.wav", files / "ref1.wav"])
    assert straight.tracks == crossed.tracks


def test_more_and_fewer_references_than_tracks(files, estimator):
    references = [files / "ref1.wav", files / "ref2.wav"]
    (alone,) = _judge(files, estimator, "track2", references=references).tracks
    assert alone.reference == str(references[1])
    assert alone.si_snr_db > 15
    first, second = _judge(files, estimator, "track1", "track2", references=references[1:]).tracks
    assert first.si_snr_db is None
    assert "no reference" in " ".join(first.warnings)
    assert second.si_snr_db > 15


def test_files_of_different_rates_channels_and_formats_meet(files, estimator):
    plain = _judge(files, estimator, "track1", "track2", references=[files / "ref1.wav", files / "ref2.wav"])
    mixture = soundfile.read(files / "mixture.wav", dtype="float32")[0]
    soundfile.write(files / "mixture.wav", np.stack([mixture, mixture], 1), RATE, subtype="PCM_24")
    import soxr

    fast = soxr.resample(soundfile.read(files / "track1.wav", dtype="float32")[0], RATE, 44100)
    _write(files / "track1.wav", fast, 44100)
    mixed = _judge(files, estimator, "track1", "track2", references=[files / "ref1.wav", files / "ref2.wav"])
    for one, other in zip(plain.tracks, mixed.tracks, strict=True):
        assert other.si_snr_db == pytest.approx(one.si_snr_db, abs=0.3)
        assert other.blind_si_snr_db == pytest.approx(one.blind_si_snr_db, abs=0.3)


def test_a_channel_of_the_mixture_can_be_chosen(files, estimator):
    plain = _judge(files, estimator, "track1")
    mixture = soundfile.read(files / "mixture.wav", dtype="float32")[0]
    _write(files / "mixture.wav", np.stack([np.zeros_like(mixture), mixture], 1))
    assert _judge(files, estimator, "track1", channel=1).tracks == plain.tracks
    (silent,) = _judge(files, estimator, "track1", channel=0).tracks
    assert silent.blind_si_snr_db is None


class _ByEnergy:
    """Scores -10 dB where the track is quiet and 20 dB where it is loud; never in range where it is quiet."""

    config = SiSnrConfig(sample_rate=RATE, window_seconds=1.0)

    def __init__(self):
        self.shapes = []

    def parameters(self):
        return iter([torch.zeros(1)])

    def predict(self, mixture, estimates):
        from auriscope.quality import REASONS, Prediction

        self.shapes.append(tuple(estimates.shape))
        loud = estimates.square().mean(-1) > 1e-3
        outside = (~loud)[..., None].repeat(1, 1, len(REASONS)) & torch.tensor(
            [name == "embedding" for name in REASONS]
        )
        score = torch.where(loud, 20.0, -10.0)
        return Prediction(score, torch.where(loud, 1.0, 9.0), outside)


def test_windows_count_by_the_energy_of_the_track(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(int(5.3 * RATE)).astype(np.float32)
    envelope = np.repeat([0.3, 0.003, 0.3, 0.003, 0.003, 0.003], RATE)[: len(noise)].astype(np.float32)
    _write(tmp_path / "mixture.wav", 0.1 * noise)
    _write(tmp_path / "mostly.wav", noise * envelope)
    _write(tmp_path / "quiet.wav", 0.003 * noise)
    fake = _ByEnergy()
    loud, quiet = judge(tmp_path / "mixture.wav", [tmp_path / "mostly.wav", tmp_path / "quiet.wav"], model=fake).tracks
    # Five windows and none of 0.3 s: the rest is shared with the last one.
    lengths = [shape[-1] for shape in fake.shapes]
    assert sum(lengths) == len(noise)
    assert max(lengths) == RATE
    assert min(lengths) > RATE // 2
    assert loud.blind_si_snr_db == pytest.approx(20.0, abs=0.1)
    assert loud.expected_error_db == pytest.approx(1.0, abs=0.05)
    assert loud.in_range
    assert quiet.blind_si_snr_db == pytest.approx(-10.0, abs=0.01)
    assert not quiet.in_range
    assert "unlike" in " ".join(quiet.warnings)


def test_windows_are_put_together_as_energies_are(tmp_path):
    """Half of the energy at 20 dB, half at -10 dB: the error share is the mean of 1/101 and 10/11."""
    rng = np.random.default_rng(0)
    halves = np.concatenate([np.full(RATE, 0.1), np.full(9 * RATE, 0.1 / 3)]).astype(np.float32)
    signal = halves * rng.choice([-1.0, 1.0], size=10 * RATE).astype(np.float32)
    _write(tmp_path / "mixture.wav", signal)
    (track,) = judge(tmp_path / "mixture.wav", [tmp_path / "mixture.wav"], model=_ThresholdAt(0.05)).tracks
    share = (1 / 101 + 10 / 11) / 2
    assert track.blind_si_snr_db == pytest.approx(10 * math.log10((1 - share) / share), abs=0.02)
    assert track.expected_error_db == pytest.approx((1 + 9) / 2, abs=0.02)


class _ThresholdAt(_ByEnergy):
    def __init__(self, level):
        super().__init__()
        self.level = level

    def predict(self, mixture, estimates):
        return super().predict(mixture, estimates * (math.sqrt(1e-3) / self.level))


@pytest.mark.parametrize("num_frames", [1, 10])
def test_a_few_samples_give_no_score_and_a_warning(tmp_path, estimator, num_frames):
    _write(tmp_path / "mixture.wav", np.full(num_frames, 0.1, dtype=np.float32))
    result = judge(tmp_path / "mixture.wav", [tmp_path / "mixture.wav"] * 2, model=estimator)
    for track in result.tracks:
        assert (track.blind_si_snr_db, track.expected_error_db, track.in_range) == (None, None, None)
        assert "too short" in " ".join(track.warnings)


def test_digital_silence_gives_no_score_and_a_warning(files, estimator):
    silence = np.zeros(int(2.6 * RATE), dtype=np.float32)
    _write(files / "track2.wav", silence)
    references = [files / "ref1.wav", files / "ref2.wav"]
    result = _judge(files, estimator, "track1", "track2", references=references)
    first, second = result.tracks
    assert first.blind_si_snr_db is not None
    assert first.si_snr_db > 5
    assert (second.blind_si_snr_db, second.si_snr_db, second.sdr_db) == (None, None, None)
    assert any("silence" in warning for warning in second.warnings)
    _write(files / "mixture.wav", silence)
    result = _judge(files, estimator, "track1", "track2", references=references)
    assert all(track.blind_si_snr_db is None and track.si_snri_db is None for track in result.tracks)
    assert any("silence" in warning for warning in result.warnings)
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_silent_reference_leaves_the_other_exact(files, estimator):
    _write(files / "ref2.wav", np.zeros(int(2.6 * RATE), dtype=np.float32))
    result = _judge(files, estimator, "track1", "track2", references=[files / "ref1.wav", files / "ref2.wav"])
    values = [track.si_snr_db for track in result.tracks]
    assert values[0] > 5
    assert values[1] is None


def test_perfect_tracks_have_the_highest_value_and_no_infinity(files, estimator):
    references = [files / "ref1.wav", files / "ref2.wav"]
    result = judge(files / "mixture.wav", references, references=references, model=estimator)
    assert all(90 < track.si_snr_db < 100.001 for track in result.tracks)


def test_files_of_other_lengths_are_refused_by_name(files, estimator):
    _write(files / "track2.wav", np.ones(RATE, dtype=np.float32))
    with pytest.raises(AudioFileError, match=r"track2\.wav: lasts 1\.00 s, but the mixture .*2\.60 s"):
        _judge(files, estimator, "track1", "track2")


def test_a_few_milliseconds_more_or_less_do_no_harm(files, estimator):
    track = soundfile.read(files / "track1.wav", dtype="float32")[0]
    _write(files / "track1.wav", track[: -RATE // 20])
    _write(files / "track2.wav", np.pad(track, (0, RATE // 20)))
    result = _judge(files, estimator, "track1", "track2", references=[files / "ref1.wav", files / "ref2.wav"])
    assert all(track.blind_si_snr_db is not None and track.si_snr_db is not None for track in result.tracks)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.wav", None),
        ("empty.wav", b""),
        ("text.wav", b"this is no sound at all, but long enough to look at"),
        ("header.wav", "header"),
        ("nan.wav", "nan"),
        ("infinity.wav", "infinity"),
    ],
)
def test_bad_files_give_one_clear_line(files, estimator, name, content):
    path = files / name
    if content == "header":
        path.write_bytes((files / "track1.wav").read_bytes()[:44])
    elif content in ("nan", "infinity"):
        waveform = soundfile.read(files / "track1.wav", dtype="float32")[0]
        waveform[-5] = np.nan if content == "nan" else np.inf
        _write(path, waveform)
    elif content is not None:
        path.write_bytes(content)
    for mixture, track in ((files / "mixture.wav", path), (path, files / "track1.wav")):
        with pytest.raises(AuriscopeError, match=name) as caught:
            judge(mixture, [track], model=estimator)
        assert "\n" not in str(caught.value)


def test_wrong_models_and_no_tracks_are_refused(files, estimator, tmp_path):
    from auriscope.separation import ConvTasNet, ConvTasNetConfig

    with pytest.raises(AuriscopeError, match="at least one"):
        judge(files / "mixture.wav", [], model=estimator)
    with pytest.raises(AuriscopeError, match="sisnrr"):
        judge(files / "mixture.wav", [files / "track1.wav"], model="quality/sisnrr")
    ConvTasNet(ConvTasNetConfig(**ConvTasNet.Tiny)).save_pretrained(tmp_path / "separator")
    with pytest.raises(AuriscopeError, match="not a quality model"):
        judge(files / "mixture.wav", [files / "track1.wav"], model=tmp_path / "separator")


def test_a_model_that_gives_nan_yields_null(files):
    class Broken(_ByEnergy):
        def predict(self, mixture, estimates):
            prediction = super().predict(mixture, estimates)
            prediction.score_db.fill_(math.nan)
            return prediction

    (track,) = _judge(files, Broken(), "track1").tracks
    assert track.blind_si_snr_db is None
    assert track.expected_error_db is None
    assert track.warnings


def test_progress_rises_to_one(files, estimator):
    seen = []
    _judge(files, estimator, "track1", references=[files / "ref1.wav"], on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 3


def test_memory_does_not_grow_with_the_recording(tmp_path):
    """No window and no block is larger for a long recording than for a short one."""
    rng = np.random.default_rng(0)
    for seconds in (20, 60):
        _write(tmp_path / "mixture.wav", 0.1 * rng.standard_normal(seconds * RATE).astype(np.float32))
        fake = _ByEnergy()
        judge(tmp_path / "mixture.wav", [tmp_path / "mixture.wav"], model=fake)
        assert max(shape[-1] for shape in fake.shapes) == RATE
        assert len(fake.shapes) == seconds
