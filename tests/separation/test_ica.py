from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import FastICA
from torch import Tensor

from auriscope.data import utterances
from auriscope.errors import AuriscopeError
from auriscope.metrics import pit_si_snr
from auriscope.separation import ICA, ICAConfig
from auriscope.separation.ica import ALGORITHMS, fit_unmixing
from auriscope.signal.files import read


@pytest.fixture
def sources() -> Tensor:
    """Three sources (1, 3, 12000) float64: two with long tails, one uniform."""
    rng = np.random.default_rng(0)
    skewed = np.sign(rng.standard_normal(12_000)) * rng.exponential(size=12_000) ** 1.5
    return torch.from_numpy(np.stack([rng.laplace(size=12_000), rng.uniform(-1, 1, 12_000), skewed])).unsqueeze(0)


@pytest.fixture
def mixing() -> Tensor:
    return torch.tensor([[1.0, 0.7, -0.3], [0.4, -1.0, 0.6], [-0.5, 0.3, 1.1], [0.2, 0.9, 0.8]], dtype=torch.float64)


@pytest.mark.parametrize("algorithm", ["parallel", "deflation"])
@pytest.mark.parametrize("contrast", ["logcosh", "exp", "cube"])
def test_equals_scikit_learn(sources: Tensor, mixing: Tensor, algorithm: str, contrast: str) -> None:
    array = mixing[:3] @ sources
    initial = np.random.default_rng(1).standard_normal((3, 3))
    # eigh whitens by the same basis as ours; svd, the default, by another, from which the same matrix starts elsewhere.
    peer = FastICA(3, algorithm=algorithm, fun=contrast, w_init=initial, whiten_solver="eigh").fit(array[0].T.numpy())
    config = ICAConfig(3, 3, algorithm=algorithm, contrast=contrast)
    ours = fit_unmixing(array, config, initial=torch.from_numpy(initial))
    assert ours.num_iterations.item() == peer.n_iter_
    assert ours.converged.all()
    # The same rows up to their order and sign, and the same mixing.
    agreement = ours.unmixing[0].numpy() @ peer.mixing_
    order = np.abs(agreement).argmax(1)
    signs = np.sign(agreement[range(3), order])
    np.testing.assert_allclose(ours.unmixing[0].numpy(), signs[:, None] * peer.components_[order], atol=1e-8)
    np.testing.assert_allclose(ours.mixing[0].numpy(), signs * peer.mixing_[:, order], atol=1e-8)
    np.testing.assert_allclose(ours.mean[0].numpy(), peer.mean_, atol=1e-10)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_more_microphones_than_sources(sources: Tensor, mixing: Tensor, algorithm: str) -> None:
    if algorithm == "infomax":
        # Without extension it takes no source with tails shorter than a Gaussian's.
        sources, mixing = sources[:, [0, 2]], mixing[:, [0, 2]]
    num_sources = sources.shape[1]
    config = ICAConfig(4, num_sources, algorithm=algorithm, max_iterations=400, reference_channel=1)
    array = mixing @ sources
    found = fit_unmixing(array, config)
    assert found.converged.all()
    images = mixing[1].unsqueeze(-1) * sources
    result = pit_si_snr(found.estimates(array, channel=1), images)
    assert result.values.min() > 30
    # Loudest first at the reference microphone, and the sum of the tracks is what it recorded.
    loudness = found.estimates(array, channel=1).square().sum(-1)
    assert (loudness.diff() <= 0).all()
    whole = array - array.mean(-1, keepdim=True)
    torch.testing.assert_close(found.source_images(array).sum(1), whole, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.sources(array).var(-1), torch.ones(1, num_sources).double(), rtol=1e-3, atol=0)


def test_extended_infomax_ends_where_slow_natural_gradient_ends(sources: Tensor, mixing: Tensor) -> None:
    array = mixing[:3] @ sources[..., :2000]
    config = ICAConfig(3, 3, algorithm="extended_infomax", max_iterations=1000, tolerance=1e-6)
    ours = fit_unmixing(array, config)
    # The textbook: fixed steps along (I - K tanh(u)u' - uu')W, with the signs that are known here.
    x = (array - array.mean(-1, keepdim=True))[0].numpy()
    weights = ours.unmixing[0].numpy() + 0.05 * np.random.default_rng(0).standard_normal((3, 3))
    kurtosis = (ours.sources(array)[0] ** 4).mean(-1).numpy() - 3
    for _ in range(500):
        u = weights @ x
        score = np.sign(kurtosis)[:, None] * np.tanh(u) + u
        weights = weights + 0.2 * (np.eye(3) - score @ u.T / x.shape[1]) @ weights
    weights /= np.std(weights @ x, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(weights @ ours.mixing[0].numpy()), np.eye(3), atol=1e-4)


def test_a_batch_equals_each_recording_alone(sources: Tensor, mixing: Tensor) -> None:
    arrays = torch.stack([mixing[:2, :2] @ sources[0, :2], mixing[1:3, 1:] @ sources[0, 1:]])
    lengths = torch.tensor([12_000, 7_001])
    noise = torch.randn(arrays.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    padded = torch.where(torch.arange(12_000) < lengths.reshape(2, 1, 1), arrays, noise)
    for algorithm in ALGORITHMS:
        for contrast in ("logcosh", "exp", "cube"):
            config = ICAConfig(algorithm=algorithm, contrast=contrast)
            together = fit_unmixing(padded, config, lengths)
            for item, length in enumerate(lengths.tolist()):
                alone = fit_unmixing(arrays[item : item + 1, :, :length], config)
                torch.testing.assert_close(together.unmixing[item], alone.unmixing[0], atol=1e-8, rtol=1e-8)
                assert together.num_iterations[item] == alone.num_iterations[0]


def test_the_model_joins_recordings_that_share_a_mixing(sources: Tensor, mixing: Tensor) -> None:
    array = (mixing[:3] @ sources).float()
    pieces = torch.stack([array[0, :, :6000], array[0, :, 6000:]])
    model = ICA(ICAConfig(3, 3)).fit(pieces)
    whole = ICA(ICAConfig(3, 3)).fit(array)
    torch.testing.assert_close(model.unmixing, whole.unmixing)
    images = model.source_images(pieces)
    assert images.shape == (2, 3, 3, 6000)
    torch.testing.assert_close(images[:, :, 0], model.separate(pieces), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (torch.zeros(1, 2, 100), "silent"),
        (torch.linspace(-1, 1, 100).repeat(1, 2, 1), "copies"),
        (torch.full((1, 2, 100), torch.inf), "NaN or infinity"),
        (torch.ones(1, 3, 100), "2 channels"),
        (torch.ones(2, 100), "batch, channels, time"),
    ],
)
def test_recordings_that_cannot_be_unmixed(array: Tensor, message: str) -> None:
    with pytest.raises(AuriscopeError, match=message):
        fit_unmixing(array)


@pytest.mark.parametrize(
    "values",
    [{"num_sources": 3}, {"algorithm": "fast"}, {"contrast": "tanh"}, {"reference_channel": 2}, {"max_iterations": 0}],
)
def test_configurations_that_make_no_sense(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        ICAConfig(**values)  # type: ignore[arg-type]


@pytest.mark.corpora
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_real_voices(real_corpora: Path, algorithm: str) -> None:
    clips = {clip.speaker: clip for clip in utterances("libri_251spk", "train") if clip.duration_seconds > 8}
    voices = [read(clip.path, sample_rate=16_000, duration_seconds=8.0)[0] for clip in list(clips.values())[:3]]
    sources = torch.from_numpy(np.stack(voices)).unsqueeze(0)
    sources = 0.1 * sources / sources.std(-1, keepdim=True)
    mixing = torch.tensor([[1.0, 0.7, 0.5], [0.5, 1.0, 0.6], [0.7, -0.4, 1.0]])
    array = mixing @ sources
    estimates = ICA(ICAConfig(3, 3, algorithm=algorithm)).fit(array).separate(array)
    images = mixing[0].unsqueeze(-1) * sources
    mixed = pit_si_snr(array[:, :1].expand(-1, 3, -1), images).values
    assert (pit_si_snr(estimates, images).values - mixed).min() > 15
