from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF as PeerNMF  # noqa: N811
from torch import Tensor

from auriscope.data import noise_clips, utterances
from auriscope.data.corpora import Clip
from auriscope.errors import AuriscopeError
from auriscope.metrics import si_snr
from auriscope.nn.nmf import DIVERGENCES, divergence_of, factorize
from auriscope.separation import NMF, NMFConfig
from auriscope.separation.nmf import decompose
from auriscope.signal.files import read


def _start(batch: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix (batch, 40, 700), more than one tile of a large batch, and where to start with 5 components."""
    rng = np.random.default_rng(0)
    matrix = rng.gamma(0.5, size=(batch, 40, 5)) @ rng.gamma(0.5, size=(batch, 5, 700)) * rng.gamma(2, size=(40, 700))
    parts = (matrix + 1e-3, rng.uniform(0.1, 1, (batch, 40, 5)), rng.uniform(0.1, 1, (batch, 5, 700)))
    matrix, dictionary, activations = (torch.from_numpy(part).to(dtype) for part in parts)
    return matrix, dictionary, activations


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_goes_through_the_factors_of_scikit_learn(divergence: str) -> None:
    matrix, dictionary, activations = _start()
    options = {"solver": "mu", "beta_loss": {"euclidean": "frobenius"}.get(divergence, divergence), "init": "custom"}
    peer = PeerNMF(5, max_iter=30, tol=0, **options)
    w = peer.fit_transform(matrix[0].numpy(), W=dictionary[0].numpy().copy(), H=activations[0].numpy().copy())
    ours = factorize(matrix, divergence=divergence, num_iterations=30, dictionary=dictionary, activations=activations)
    np.testing.assert_allclose(ours.dictionary[0].numpy(), w, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(ours.activations[0].numpy(), peer.components_, rtol=1e-7, atol=1e-12)
    # scikit-learn reports the square root of twice the divergence.
    assert ours.divergence.item() == pytest.approx(peer.reconstruction_err_**2 / 2, rel=1e-9)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_divergence_never_rises(divergence: str) -> None:
    matrix, dictionary, activations = _start()
    values = [divergence_of(matrix, dictionary @ activations, divergence).item()]
    for _ in range(15):
        found = factorize(
            matrix, divergence=divergence, num_iterations=1, dictionary=dictionary, activations=activations
        )
        dictionary, activations = found.dictionary, found.activations
        values.append(found.divergence.item())
    assert all(after <= before for before, after in itertools.pairwise(values))
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_batch_equals_each_matrix_alone(divergence: str) -> None:
    matrix, dictionary, activations = _start(batch=6)
    options = {"divergence": divergence, "num_iterations": 5}
    together = factorize(matrix, dictionary=dictionary, activations=activations, **options)
    for item in range(6):
        one = slice(item, item + 1)
        alone = factorize(matrix[one], dictionary=dictionary[one], activations=activations[one], **options)
        torch.testing.assert_close(together.activations[one], alone.activations)
        torch.testing.assert_close(together.divergence[one], alone.divergence)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_given_dictionary_stays(divergence: str) -> None:
    matrix, dictionary, activations = _start()
    found = factorize(
        dictionary @ activations,
        divergence=divergence,
        dictionary=dictionary,
        learn_dictionary=False,
        num_iterations=500,
    )
    assert torch.equal(found.dictionary, dictionary)
    assert found.divergence.item() < 1e-3 * divergence_of(dictionary @ activations, matrix, divergence).item()


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_silent_frames_and_quiet_matrices_stay_finite(divergence: str) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(2, 20, 50, generator=generator) * torch.tensor([1.0, 1e-6]).reshape(2, 1, 1)
    if divergence != "itakura-saito":
        matrix[:, :, 10:20] = 0
        matrix[:, 3] = 0
    found = factorize(matrix, 4, divergence=divergence)
    for tensor in (found.dictionary, found.activations, found.divergence):
        assert tensor.isfinite().all()
        assert tensor.min() >= 0


def _two_sounds(divergence: str) -> tuple[NMF, Tensor]:
    """A model fitted to noise below and noise above 2 kHz, of overlapping slopes, and other noise of the same kinds."""
    config = NMFConfig(sample_rate=8000, num_components=8, window_length=256, hop_length=64, divergence=divergence)
    generator = torch.Generator().manual_seed(2)
    white = torch.randn(2, 2, 16_000, generator=generator)
    gates = (torch.rand(2, 2, 40, generator=generator) > 0.3).repeat_interleave(400, -1)
    smooth = torch.nn.functional.avg_pool1d(white, 3, 1, 1)
    kinds = torch.stack([smooth[:, 0], (white - smooth)[:, 1]], 1) * gates
    kinds = 0.1 * kinds / kinds.std(-1, keepdim=True)
    return NMF(config).fit(kinds[:1]), kinds[1:]


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_dictionaries_learnt_apart_separate_a_mixture(divergence: str) -> None:
    model, sources = _two_sounds(divergence)
    mixture = sources.sum(1)
    estimates = model.separate(mixture)
    torch.testing.assert_close(estimates.sum(1), mixture, atol=1e-4, rtol=0)
    gain = si_snr(estimates, sources) - si_snr(mixture.unsqueeze(1), sources)
    assert gain.min() > 3
    # The level of the mixture changes nothing but that of the tracks.
    torch.testing.assert_close(model.separate(1e-3 * mixture), 1e-3 * estimates, atol=2e-5, rtol=1e-2)


def test_activations_tell_when_a_source_sounds() -> None:
    model, sources = _two_sounds("kullback-leibler")
    found = model.activations(torch.cat([sources[:, 0], sources[:, 1]], -1)).sum(2)
    middle = found.shape[-1] // 2
    assert found[0, 0, :middle].sum() > 3 * found[0, 1, :middle].sum()
    assert found[0, 1, middle:].sum() > 3 * found[0, 0, middle:].sum()


def test_decomposition_without_training_finds_two_tones() -> None:
    moment = torch.arange(16_000) / 8000
    gates = torch.stack([(moment * 4 % 2 < 1).float(), (moment * 6 % 2 < 1).float()])
    tones = 0.3 * gates * torch.sin(2 * torch.pi * torch.tensor([[440.0], [1900.0]]) * moment)
    tracks = decompose(tones.sum(0, keepdim=True), 2, NMFConfig(window_length=512, hop_length=128))
    scores = si_snr(tracks.unsqueeze(2), tones[None, None])
    assert scores.amax(1).min() > 20


def test_matrices_and_sources_that_cannot_be_modelled() -> None:
    with pytest.raises(AuriscopeError, match="-1"):
        factorize(-torch.ones(1, 2, 2), 1)
    with pytest.raises(AuriscopeError, match="holds 0"):
        factorize(torch.zeros(1, 2, 2), 1, divergence="itakura-saito")
    with pytest.raises(AuriscopeError, match="NaN"):
        factorize(torch.full((1, 2, 2), torch.nan), 1)
    model = NMF(NMFConfig(**NMF.Tiny))
    with pytest.raises(AuriscopeError, match="are not"):
        model.fit(torch.ones(1, 3, 1000))
    with pytest.raises(AuriscopeError, match="source 2 are silent"):
        model.fit(torch.stack([torch.randn(1000), torch.zeros(1000)]).unsqueeze(0))
    with pytest.raises(ValueError, match="divergence"):
        NMFConfig(divergence="hellinger")
    with pytest.raises(ValueError, match="num_components"):
        NMFConfig(num_components=0)


@pytest.mark.corpora
def test_real_speech_from_real_noise(real_corpora: Path) -> None:
    def joined(clips: Sequence[Clip], seconds: float) -> Tensor:
        return torch.from_numpy(
            np.concatenate([read(c.path, sample_rate=16_000, duration_seconds=seconds)[0] for c in clips])
        )

    speech = [clip for clip in utterances("libri_251spk", "train") if clip.duration_seconds > 6]
    noise = [clip for clip in noise_clips("train") if clip.duration_seconds > 4]
    noise = [clip for clip in noise if clip.label == noise[0].label]
    assert len(noise) > 3
    spoken, heard = joined(speech[:5], 3.0), joined(noise[:-1][:5], 3.0)
    size = min(spoken.shape[0], heard.shape[0])
    sources = torch.stack([spoken[:size], heard[:size]]).unsqueeze(0)
    model = NMF(NMFConfig(num_components=20, fit_iterations=40, iterations=40)).fit(sources)
    test = torch.stack([joined(speech[-1:], 3.0), joined(noise[-1:], 3.0)]).unsqueeze(0)
    test = 0.1 * test / test.std(-1, keepdim=True)
    gain = si_snr(model.separate(test.sum(1)), test) - si_snr(test.sum(1, keepdim=True), test)
    assert gain[0, 0] > 1
