"""Features by name against the libraries they are named after, and padded batches against each recording alone."""

from __future__ import annotations

import kaldi_native_fbank as knf
import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from auriscope.signal.cepstra import GlobalNormalization, dct_matrix, deltas, normalize
from auriscope.signal.features import PRESETS, FeatureConfig, LogMel, feature_names, make_features, spec_augment

RATE = 16_000


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    """A second of noise that swells, as cold starts and floors matter, and a tone."""
    rng = np.random.default_rng(0)
    moment = np.arange(16_123)
    noise = 0.1 * rng.standard_normal(len(moment)) * moment / len(moment)
    return (noise + 0.05 * np.sin(0.2 * moment) * (moment > 4000)).astype(np.float32)


def _alone(name: str, waveform: np.ndarray, **changes: object) -> np.ndarray:
    features, frame_lengths = make_features(name, **changes)(torch.from_numpy(waveform)[None])
    assert frame_lengths.tolist() == [features.shape[1]]
    return features[0].numpy()


def _close(found: np.ndarray, expected: np.ndarray, atol: float = 1e-4) -> None:
    assert found.shape == expected.shape
    # Decibels and cepstra reach hundreds, where float32 keeps five decimals.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)


def test_librosa(waveform):
    power = librosa.feature.melspectrogram(y=waveform, sr=RATE)
    _close(_alone("librosa", waveform), librosa.power_to_db(power).T)
    power = librosa.feature.melspectrogram(
        y=waveform, sr=RATE, n_fft=512, win_length=400, hop_length=160, n_mels=40, htk=True, norm=None
    )
    ours = _alone("librosa", waveform, fft_length=512, window_length=400, hop_length=160, num_mels=40, filters="htk")
    _close(ours, librosa.power_to_db(power).T)


@pytest.mark.parametrize(("lifter", "atol"), [(0.0, 1e-4), (22.0, 12e-4)])
def test_librosa_mfcc_with_deltas(waveform, lifter, atol):
    """The lifter multiplies cepstra by up to 12, and so what float32 rounds off."""
    mfcc = librosa.feature.mfcc(y=waveform, sr=RATE, lifter=lifter)
    _close(_alone("librosa-mfcc", waveform, lifter=lifter), mfcc.T, atol)
    expected = np.concatenate([mfcc, librosa.feature.delta(mfcc), librosa.feature.delta(mfcc, order=2)])
    _close(_alone("librosa-mfcc", waveform, lifter=lifter, num_deltas=2), expected.T, atol)


@pytest.mark.parametrize("num_mels", [80, 128])
def test_whisper(waveform, num_mels):
    from transformers import WhisperFeatureExtractor

    theirs = WhisperFeatureExtractor(feature_size=num_mels)
    settings = {"sampling_rate": RATE, "return_tensors": "np"}
    expected = theirs(waveform, padding="do_not_pad", **settings)["input_features"][0]
    _close(_alone("whisper", waveform, num_mels=num_mels), expected.T)
    padded = np.pad(waveform, (0, 30 * RATE - len(waveform)))
    _close(_alone("whisper", padded, num_mels=num_mels), theirs(waveform, **settings)["input_features"][0].T)


def test_wav2vec2(waveform):
    from transformers import Wav2Vec2FeatureExtractor

    theirs = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    waves = [waveform + 0.3, 5 * waveform[:7000]]
    expected = theirs(waves, sampling_rate=RATE, padding=True, return_tensors="np")
    batch, lengths = _padded([torch.from_numpy(wave) for wave in waves])
    features, frame_lengths = make_features("wav2vec2")(batch, lengths)
    assert frame_lengths.tolist() == expected["attention_mask"].sum(1).tolist()
    _close(features[..., 0].numpy(), expected["input_values"])


def _kaldi(online: object, waveform: np.ndarray) -> np.ndarray:
    online.accept_waveform(RATE, (32_768.0 * waveform).tolist())
    online.input_finished()
    return np.array([online.get_frame(frame) for frame in range(online.num_frames_ready)])


@pytest.mark.parametrize(("num_mels", "max_hz"), [(80, 0.0), (23, 7600.0)])
def test_kaldi(waveform, num_mels, max_hz):
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = num_mels
    options.mel_opts.high_freq = max_hz
    ours = _alone("kaldi", waveform, num_mels=num_mels, max_hz=max_hz or None)
    _close(ours, _kaldi(knf.OnlineFbank(options), waveform))
    options.use_energy = True
    ours = _alone("kaldi", waveform, num_mels=num_mels, max_hz=max_hz or None, energy=True)
    _close(ours, _kaldi(knf.OnlineFbank(options), waveform))


def test_kaldi_mfcc(waveform):
    options = knf.MfccOptions()
    options.frame_opts.dither = 0.0
    _close(_alone("kaldi-mfcc", waveform), _kaldi(knf.OnlineMfcc(options), waveform))


def _padded(waves: list[Tensor], filling: float = 0.0) -> tuple[Tensor, Tensor]:
    batch = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True, padding_value=filling)
    return batch, torch.tensor([len(wave) for wave in waves])


CASES = [(name, {}) for name in feature_names()] + [
    ("kaldi", {"energy": True, "num_deltas": 1, "normalization": "mean"}),
    ("librosa-mfcc", {"num_deltas": 2, "normalization": "mean_variance", "hop_length": 200}),
    ("librosa", {"pad_mode": "reflect", "log": "natural"}),
]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_a_padded_batch_equals_each_recording_alone(waveform, name, changes):
    extractor = make_features(name, **changes)
    waves = [torch.from_numpy(waveform[-length:]) for length in (9000, 16_000, 2401, 500, 5, 1)]
    batch, lengths = _padded(waves, filling=float("nan"))
    features, frame_lengths = extractor(batch, lengths)
    assert features.shape == (6, int(extractor.frame_lengths(torch.tensor(16_000))), extractor.num_channels)
    assert features.isfinite().all()
    for row, wave in enumerate(waves):
        alone, number = extractor(wave[None])
        assert frame_lengths[row] == number[0] == alone.shape[1]
        torch.testing.assert_close(features[row, : alone.shape[1]], alone[0], rtol=1e-4, atol=1e-4)
        assert not features[row, alone.shape[1] :].any()


@pytest.mark.parametrize("name", feature_names())
def test_empty_and_silent_recordings_are_finite(name):
    extractor = make_features(name)
    assert extractor(torch.zeros(2, 4000))[0].isfinite().all()
    features, frame_lengths = extractor(torch.zeros(2, 0))
    assert features.isfinite().all()
    assert frame_lengths.tolist() == extractor.frame_lengths(torch.zeros(2, dtype=torch.int64)).tolist()
    features, _ = extractor(torch.ones(2, 4000), torch.tensor([0, 4000]))
    assert features.isfinite().all()
    assert not features[0, 1:].any()


def test_frames_are_as_far_apart_as_they_say():
    for name in feature_names():
        extractor = make_features(name)
        frames = [int(extractor.frame_lengths(torch.tensor(seconds * RATE))) for seconds in (1, 101)]
        assert (frames[1] - frames[0]) * extractor.frame_seconds == pytest.approx(100.0, abs=extractor.frame_seconds)


def test_unknown_names_and_values_are_refused():
    with pytest.raises(ValueError, match="there are no features 'mfcc'; there are kaldi, "):
        make_features("mfcc")
    with pytest.raises(ValueError, match="window_length <= fft_length"):
        FeatureConfig(fft_length=256)
    with pytest.raises(ValueError, match="floor must be above 0"):
        make_features("librosa", floor=0.0)
    with pytest.raises(ValueError, match="unknown window"):
        make_features("librosa", window="blackman")
    with pytest.raises(ValueError, match="23 mels give 1 to 23 cepstra, not 30"):
        make_features("kaldi-mfcc", num_cepstra=30)
    with pytest.raises(ValueError, match="odd width above 2, not 2"):
        deltas(torch.zeros(1, 4, 1), torch.tensor([4]), order=2, width=2)


def test_cepstra_turn_mels_without_changing_their_length():
    matrix = dct_matrix(40, 40).double()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(40, dtype=torch.float64), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("edges", ["fit", "replicate"])
def test_deltas_of_a_line_are_its_slope(edges):
    line = (3.0 * torch.arange(12.0))[None, :, None].repeat(2, 1, 1)
    slopes = deltas(line, torch.tensor([12, 10]), width=5, edges=edges)
    assert slopes[0, 2:-2, 0].tolist() == pytest.approx([3.0] * 8)
    assert slopes[1, :, 0].tolist() == pytest.approx([*slopes[1, :10, 0].tolist(), 0.0, 0.0])
    # At the ends a repeated frame flattens the line.
    assert (slopes[1, 9, 0] < 2.0) == (edges == "replicate")


def test_normalisation_of_each_recording_and_of_a_corpus():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(4, 50, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.2]) + 2.0
    frame_lengths = torch.tensor([50, 31, 17, 1])
    each = normalize(features, frame_lengths)
    valid = [features[row, :length] for row, length in enumerate(frame_lengths)]
    torch.testing.assert_close(each[1, :31].mean(0), torch.zeros(3), rtol=0.0, atol=1e-5)
    torch.testing.assert_close(each[1, :31].std(0, correction=0), torch.ones(3))
    torch.testing.assert_close(
        normalize(features, frame_lengths, variance=False)[2, :17], valid[2] - valid[2].mean(0), rtol=1e-4, atol=1e-5
    )

    corpus = GlobalNormalization(3)
    torch.testing.assert_close(corpus(features, frame_lengths)[1, :31], valid[1])
    corpus.update(features[:2], frame_lengths[:2])
    corpus.update(features[:0], frame_lengths[:0])
    corpus.update(features[2:], frame_lengths[2:])
    frames = torch.cat(valid)
    assert corpus.count == len(frames)
    torch.testing.assert_close(corpus.mean, frames.mean(0))
    torch.testing.assert_close(corpus.deviation, frames.std(0, correction=0))
    loaded = GlobalNormalization(3)
    loaded.load_state_dict(corpus.state_dict())
    expected = (features[1] - frames.mean(0)) / frames.std(0, correction=0)
    torch.testing.assert_close(loaded(features, frame_lengths)[1, :31], expected[:31])
    assert not loaded(features, frame_lengths)[1, 31:].any()
    only_mean = GlobalNormalization(3, variance=False)
    only_mean.load_state_dict(corpus.state_dict())
    torch.testing.assert_close(only_mean(features, frame_lengths)[1, :31], valid[1] - frames.mean(0))


def test_presets_are_what_make_features_makes():
    for name, config in PRESETS.items():
        assert make_features(name).config == config
    assert isinstance(make_features("log-mel", num_mels=40), LogMel)


def test_log_mel_is_librosas_and_normalised(waveform):
    """The shipped models were trained with it: it must never change."""
    features = _alone("log-mel", waveform, normalize=False)
    power = librosa.feature.melspectrogram(
        y=waveform, sr=RATE, n_fft=512, win_length=400, hop_length=160, n_mels=80, fmin=20.0
    )
    expected = np.log(np.maximum(power, 1e-10)).T
    _close(features, expected)
    centred = expected - expected.mean(0)
    _close(_alone("log-mel", waveform), centred / np.sqrt(np.mean(centred**2) + 1e-5))


def test_spec_augment_is_fixed_by_its_generator_and_stays_within_its_widths():
    features = torch.ones(64, 200, 80)
    frame_lengths = torch.full((64,), 200)
    frame_lengths[1] = 10

    def masks(seed: int, **changes: int | float) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return spec_augment(features, frame_lengths, generator=generator, **changes) == 0

    assert torch.equal(masks(1), masks(1))
    assert not torch.equal(masks(1), masks(2))
    mels = masks(3, num_mel_masks=1, num_time_masks=0, max_mel_width=20)
    assert torch.equal(mels, mels[:, :1].expand_as(mels))
    widths = mels[:, 0].sum(1)
    assert widths.min() <= 2
    assert 18 <= widths.max() <= 20
    assert len({tuple(row.nonzero()[:, 0].tolist()) for row in mels[:, 0]}) > 50
    times = masks(4, num_mel_masks=0, num_time_masks=1, max_time_width=30, max_time_share=0.2)
    assert torch.equal(times, times[..., :1].expand_as(times))
    widths = times[..., 0].sum(1)
    assert 27 <= widths.max() <= 30
    assert widths[1] <= 2
    for row in times[..., 0]:
        # One stretch, without holes.
        assert row.int().diff().abs().sum() <= 2
    both = masks(5)
    assert both.sum() > masks(5, num_time_masks=0).sum() > 0
