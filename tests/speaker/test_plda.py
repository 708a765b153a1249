"""PLDA against the normal distributions that it stands for, scikit-learn, and data drawn from the model."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from auriscope.errors import AuriscopeError
from auriscope.metrics import equal_error_rate
from auriscope.pretrained import load
from auriscope.speaker import Plda, PldaConfig
from auriscope.speaker.plda import two_covariances


def drawn(num_speakers: int, dim: int, seed: int = 0, largest: int = 6):
    """Embeddings of speakers with one to ``largest`` recordings each, from a two-covariance model."""
    rng = np.random.default_rng(seed)
    shapes = np.random.default_rng(99)
    between, within = (m @ m.T / dim + 0.1 * np.eye(dim) for m in shapes.normal(size=(2, dim, dim)))
    speakers, values = [], []
    for speaker in range(num_speakers):
        voice = rng.multivariate_normal(np.full(dim, 0.3), between)
        for _ in range(rng.integers(1, largest + 1)):
            values.append(rng.multivariate_normal(voice, within))
            speakers.append(speaker)
    return torch.tensor(np.array(values)), speakers, between, within


def log_likelihood(values, speakers, mean, between, within) -> float:
    """Of all recordings of every speaker at once, as one long normal vector."""
    total, speakers = 0.0, np.array(speakers)
    for speaker in np.unique(speakers):
        own = np.asarray(values)[speakers == speaker]
        n = len(own)
        covariance = np.kron(np.ones((n, n)), between) + np.kron(np.eye(n), within)
        total += multivariate_normal.logpdf(own.reshape(-1), np.tile(mean, n), covariance)
    return total


def test_every_iteration_raises_the_likelihood() -> None:
    values, speakers, _, _ = drawn(60, 3)
    codes = torch.tensor(speakers)
    found = [log_likelihood(values, speakers, *two_covariances(values, codes, n)) for n in (1, 2, 3, 5, 10, 20)]
    assert all(later > earlier for earlier, later in itertools.pairwise(found))


def test_the_model_that_data_were_drawn_from_is_found() -> None:
    values, speakers, between, within = drawn(3000, 3, largest=4)
    mean, found_between, found_within = two_covariances(values, torch.tensor(speakers), 100)
    np.testing.assert_allclose(mean, np.full(3, 0.3), atol=0.06)
    np.testing.assert_allclose(found_between, between, atol=0.15 * np.trace(between) / 3)
    np.testing.assert_allclose(found_within, within, atol=0.1 * np.trace(within) / 3)


def test_scores_are_ratios_of_likelihoods() -> None:
    values, speakers, _, _ = drawn(120, 8, seed=1)
    plda = Plda.from_config({"embedding_dim": 8, "dim": 4}).fit(values, speakers)
    first, second = values[:10].float(), values[5:15].float()
    between = np.diag(plda.between.double().numpy())
    one_voice = np.block([[between + np.eye(4), between], [between, between + np.eye(4)]])
    scores = plda(first, second)
    x, y = plda.project(first).double().numpy(), plda.project(second).double().numpy()
    for row in range(10):
        together = multivariate_normal.logpdf(np.concatenate([x[row], y[row]]), np.zeros(8), one_voice)
        apart = sum(multivariate_normal.logpdf(v[row], np.zeros(4), between + np.eye(4)) for v in (x, y))
        assert scores[row].item() == pytest.approx(together - apart, abs=1e-3)


def test_the_kept_directions_are_those_of_scikit_learn() -> None:
    values, speakers, _, _ = drawn(200, 8, seed=2)
    plda = Plda.from_config({"embedding_dim": 8, "dim": 3}).fit(values, speakers)
    theirs = LinearDiscriminantAnalysis(solver="eigen", n_components=3).fit(values.numpy(), speakers)
    assert np.rad2deg(subspace_angles(plda.projection.numpy(), theirs.scalings_[:, :3])).max() < 0.5


def test_it_tells_voices_apart_where_cosines_do_not() -> None:
    """What recordings have in common besides the voice is large, and must be left out."""
    rng = np.random.default_rng(3)

    def recordings(num_speakers: int):
        voices = rng.normal(size=(num_speakers, 12)) * np.repeat([1.0, 0.1], 6)
        codes = np.repeat(np.arange(num_speakers), 4)
        noise = rng.normal(size=(len(codes), 12)) * np.repeat([0.3, 3.0], 6)
        return torch.tensor(voices[codes] + noise).float(), codes

    plda = Plda.from_config({"embedding_dim": 12, "dim": 6}).fit(*recordings(100))
    values, codes = recordings(40)
    i, j = np.triu_indices(len(codes), 1)
    cosines = torch.nn.functional.cosine_similarity(values[i], values[j])
    targets = codes[i] == codes[j]
    assert equal_error_rate(plda(values[i], values[j]), targets).value < 0.1
    assert equal_error_rate(cosines, targets).value > 0.3


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    values, speakers, _, _ = drawn(50, 8)
    plda = Plda.from_config(Plda.Tiny).fit(values, speakers)
    plda.save_pretrained(tmp_path / "plda")
    loaded = load(tmp_path / "plda")
    assert isinstance(loaded, Plda)
    assert torch.equal(loaded(values[:5].float(), values[5:10].float()), plda(values[:5].float(), values[5:10].float()))


def test_what_cannot_be_fitted() -> None:
    plda = Plda.from_config(Plda.Tiny)
    with pytest.raises(AuriscopeError, match="has not been fitted"):
        plda(torch.ones(1, 8), torch.ones(1, 8))
    values, speakers, _, _ = drawn(50, 8)
    with pytest.raises(AuriscopeError, match="needs more speakers"):
        plda.fit(values[:4], speakers[:4])
    with pytest.raises(AuriscopeError, match="needs more speakers"):
        plda.fit(values, list(range(len(values))))
    values[3, 3] = torch.nan
    with pytest.raises(AuriscopeError, match="NaN"):
        plda.fit(values, speakers)
    with pytest.raises(ValueError, match="dim"):
        PldaConfig(embedding_dim=4, dim=5)
