"""Classifiers by what they promise: one magnitude, maps and logits of one pass, and configurations that make sense."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from auriscope.classification import (
    CNN,
    Classifier,
    CNN14Classifier,
    Conv2d,
    HeadConfig,
    ImageCNN,
    SoundClassifier,
    SoundMaps,
    XVectorClassifier,
)
from auriscope.classification.heads import Cosines
from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.nn.cnn14 import CNN14, MapNorm, mean_and_max
from auriscope.nn.maps import Classifies, HiddenMaps
from auriscope.signal.features import make_features

SOUNDS: tuple[type[SoundClassifier], ...] = (CNN, CNN14Classifier, Conv2d, XVectorClassifier)
WITH_MAPS: tuple[type[Classifier], ...] = (CNN, CNN14Classifier, Conv2d, ImageCNN)


def tiny(kind: type[Any], **changes: Any) -> Any:
    torch.manual_seed(0)
    return kind.from_config({**kind.Tiny, **changes}).eval()


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", SOUNDS)
def test_a_waveform_is_heard_by_its_magnitude_alone(kind: type[SoundClassifier]) -> None:
    model, waveform, lengths = tiny(kind), noise(2, 4000), torch.tensor([4000, 2900])
    with torch.no_grad():
        spectrum = model.spectrogram(waveform, lengths)
        assert spectrum.shape == (2, 1 + 4000 // model.config.hop_length, model.config.fft_length // 2 + 1)
        torch.testing.assert_close(
            model(waveform, lengths), model.classify_magnitude(spectrum.abs(), model.frame_lengths(lengths))
        )
        whole = model.spectrogram(waveform)
        torch.testing.assert_close(model(waveform), model.classify_maps(whole.abs()[:, None]))
        torch.testing.assert_close(model.waveform(whole, 4000), waveform, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.predict_proba(waveform), model(waveform).softmax(1))


@pytest.mark.parametrize("kind", WITH_MAPS)
def test_maps_come_with_the_logits_that_follow_from_them(kind: type[Any]) -> None:
    model = tiny(kind)
    assert isinstance(model, HiddenMaps)
    x = torch.rand(2, 1, 12, 12) if kind is ImageCNN else model.spectrogram(noise(2, 6000)).abs()[:, None]
    x.requires_grad_()
    maps, logits = model.hidden_and_logits(x)
    torch.testing.assert_close(logits, model.classify_maps(x))
    assert [each.shape[1] for each in maps] == list(model.hidden_channels)
    sizes = [each.shape[2:].numel() for each in maps]
    assert sizes == sorted(sizes, reverse=True)
    for own, same in zip(model.hidden(x), maps, strict=True):
        torch.testing.assert_close(own, same)
    # Grad-CAM and its like need the way from every map to the logits.
    for gradient in torch.autograd.grad(logits[:, 0].sum(), [*maps, x]):
        assert gradient.any()


def test_an_x_vector_classifies_but_has_no_maps() -> None:
    model = tiny(XVectorClassifier)
    assert isinstance(model, Classifies)
    assert not isinstance(model, HiddenMaps)


@pytest.mark.parametrize("gain", [0.02, 1.0, 7.0])
def test_peak_features_know_no_level_and_take_what_is_blanked_as_silence(gain: float) -> None:
    model = tiny(CNN)
    magnitude = model.spectrogram(noise(1, 8000)).abs()
    features = model.features(magnitude)
    torch.testing.assert_close(model.features(gain * magnitude), features, rtol=1e-4, atol=1e-4)
    assert features.max() == 1.0
    masked = magnitude.clone()
    masked[:, 10:20] = 0.0
    assert not model.features(masked)[:, 10:20].any()
    assert model.features(torch.zeros_like(magnitude)).max() < 1e-6


def test_decibels_are_those_of_the_features_that_speaker_models_hear() -> None:
    changes = {"window": "hamming", "window_length": 400, "hop_length": 160, "fft_length": 400}
    mels = {"num_mels": 40, "filters": "symmetric", "level": "decibels", "min_hz": 0.0}
    model, waveform = tiny(CNN, **changes, **mels), noise(2, 8000)
    expected, _ = make_features("speechbrain", num_mels=40, fft_length=400)(waveform)
    torch.testing.assert_close(model.features(model.spectrogram(waveform).abs()), expected, rtol=1e-4, atol=1e-3)


def test_bins_of_the_stft_are_features_without_mels() -> None:
    magnitude = torch.rand(1, 20, 257)
    for level, expected in (("log1p", magnitude.log1p()), ("linear", magnitude)):
        model = tiny(CNN, num_mels=0, level=level, power=1, min_hz=0.0)
        assert model.num_bins == 257
        torch.testing.assert_close(model.features(magnitude), expected)
    torch.testing.assert_close(tiny(CNN, num_mels=0, level="linear").features(magnitude), magnitude.square())


def test_norms_of_maps_learn_from_valid_frames_alone() -> None:
    x, lengths = torch.randn(3, 4, 6, 5), torch.tensor([6, 4, 1])
    norm, plain = MapNorm(4), torch.nn.BatchNorm1d(4)
    valid = torch.arange(6) < lengths[:, None]
    x = torch.where(valid[:, None, :, None], x, torch.tensor(1e6))
    normed = norm(x, lengths).transpose(1, 2)[valid]
    # Every bin of a valid frame is an example.
    rows = x.transpose(1, 2)[valid].transpose(1, 2).reshape(-1, 4)
    torch.testing.assert_close(normed.transpose(1, 2).reshape(-1, 4), plain(rows))
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)


@pytest.mark.parametrize("kind", [CNN, ImageCNN])
def test_norms_that_the_convolutions_do_on_their_way_are_the_same(kind: type[Any]) -> None:
    model = tiny(kind)
    for module in model.modules():
        if isinstance(module, MapNorm):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.normal_()
            module.running_var.uniform_(0.5, 2.0)
    x = torch.rand(2, 1, 12, 12) if kind is ImageCNN else noise(2, 6000)
    with torch.no_grad():
        quick = model(x)
    torch.testing.assert_close(quick, model(x), rtol=1e-4, atol=1e-5)


def test_pooling_adds_the_mean_and_the_highest_over_time() -> None:
    x = torch.randn(2, 3, 7, 5)
    expected = torch.stack([x[0].mean(2)[:, :4].amax(1) + x[0].mean(2)[:, :4].mean(1), x[1].mean(2).amax(1)])
    expected[1] += x[1].mean(2).mean(1)
    torch.testing.assert_close(mean_and_max(x, torch.tensor([4, 7])), expected)


def test_cnn14_wants_bins_for_its_stages_and_takes_any_length() -> None:
    with pytest.raises(ValueError, match="needs at least 32 bins, not 16"):
        CNN14(16)
    trunk = CNN14(8, channels=(2, 3, 4)).eval()
    maps, embedding = trunk(torch.randn(2, 1, 8), torch.tensor([1, 1]))
    assert [tuple(each.shape) for each in maps] == [(2, 2, 2, 4), (2, 3, 1, 2), (2, 4, 1, 2)]
    assert embedding.isfinite().all()


def test_a_head_of_cosines_is_scaled_and_knows_no_length_of_the_embedding() -> None:
    head = Cosines(HeadConfig(kind="cosine", scale=20.0), 6, 3)
    embedding = torch.randn(4, 6)
    cosines = torch.nn.functional.cosine_similarity(embedding[:, None], head.classes.weight[None], dim=-1)
    torch.testing.assert_close(head(5.0 * embedding), 20.0 * cosines)
    deep = Cosines(HeadConfig(kind="cosine", num_blocks=2, block_channels=5), 6, 3)
    assert deep(embedding).shape == (4, 3)
    assert deep.classes.in_features == 5


def test_a_class_is_found_by_its_name() -> None:
    model = tiny(CNN, labels=("dog", "cat", "rain"))
    assert model.label_index("rain") == 2
    with pytest.raises(AuriscopeError, match=r"there is no class 'rian'; did you mean 'rain'\?.*dog, cat, rain"):
        model.label_index("rian")


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        (CNN, {"labels": ("dog",)}, "at least two classes, not 1"),
        (CNN, {"labels": ("dog", "dog")}, "must differ"),
        (CNN, {"level": "loud"}, "level is 'loud'"),
        (CNN, {"filters": "bark"}, "filters is 'bark'"),
        (CNN, {"window": "povey"}, "window is 'povey'"),
        (CNN, {"hop_length": 300}, "2 hop_length <= window_length"),
        (CNN, {"power": 3}, "power must be 1"),
        (CNN, {"max_hz": 9000.0}, "at most half the sample rate"),
        (CNN, {"range_db": 0.0}, "range_db above 0"),
        (CNN, {"strides": (2, 2, 2)}, "channels and strides must be as many"),
        (CNN, {"dropout": 1.0}, "dropout at least 0 and below 1"),
        (CNN14Classifier, {"channels": ()}, "channels must be at least 1"),
        (CNN14Classifier, {"head": {"kind": "square"}}, "head.kind is 'square'"),
        (CNN14Classifier, {"head": {"num_blocks": 1}}, "a linear head has none"),
        (CNN14Classifier, {"head": {"kind": "cosine", "scale": 0.0}}, "scale above 0"),
        (Conv2d, {"channels": 0}, "channels must be at least 1"),
        (XVectorClassifier, {"dim": 0}, "must be at least 1"),
        (ImageCNN, {"height": 0}, "must be at least 1"),
        (ImageCNN, {"dropout": -0.1}, "dropout must be at least 0"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(kind: type[Any], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        kind.from_config({**kind.Tiny, **changes})


def test_what_shows_maps_says_so_by_its_class() -> None:
    assert all(issubclass(kind, SoundMaps) == (kind is not XVectorClassifier) for kind in SOUNDS)
