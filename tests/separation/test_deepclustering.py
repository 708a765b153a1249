from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from auriscope.metrics import pit_si_snr
from auriscope.separation.deepclustering import (
    DeepClustering,
    DeepClusteringConfig,
    affinity_loss,
    dominant_talker,
    loud_bins,
    whitened_loss,
)


def tiny(**values: Any) -> DeepClustering:
    torch.manual_seed(0)
    return DeepClustering(DeepClusteringConfig(**{**DeepClustering.Tiny, **values})).eval()


def by_the_affinity_matrices(embeddings: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The loss of one example with both matrices of all pairs of bins, mean over the pairs by their weights."""
    pairs = weights[:, None].to(embeddings.dtype) * weights
    errors = (embeddings @ embeddings.T - targets @ targets.T).square()
    return (pairs * errors).sum() / pairs.sum()


def test_the_size_with_600_cells_in_each_direction() -> None:
    model = DeepClustering(DeepClusteringConfig())
    first, second = 8 * 600 * (129 + 600 + 2), 8 * 600 * (1200 + 600 + 2)
    assert model.num_parameters == first + second + 1201 * 129 * 40


@pytest.mark.parametrize("num_sources", [2, 3])
def test_the_loss_is_that_of_the_affinity_matrices(num_sources: int) -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(3, 60, 5, generator=generator), dim=-1)
    talkers = torch.randint(num_sources, (3, 60), generator=generator)
    targets = torch.nn.functional.one_hot(talkers, num_sources).float()
    magnitudes = torch.rand(3, 60, generator=generator)
    for weights in (magnitudes > 0.3, magnitudes):
        examples = zip(embeddings, targets, weights, strict=True)
        expected = torch.stack([by_the_affinity_matrices(*one) for one in examples])
        torch.testing.assert_close(affinity_loss(embeddings, targets, weights), expected)


def test_the_gradient_of_the_loss_is_that_of_the_affinity_matrices() -> None:
    embeddings = torch.randn(40, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.eye(2, dtype=torch.float64)[torch.arange(40) % 2]
    weights = torch.arange(40) < 30
    (slow,) = torch.autograd.grad(by_the_affinity_matrices(embeddings, targets, weights), embeddings)
    (fast,) = torch.autograd.grad(affinity_loss(embeddings[None], targets[None], weights[None]).sum(), embeddings)
    torch.testing.assert_close(fast, slow)
    assert not fast[30:].any()


def test_a_network_that_says_who_is_louder_gives_the_ideal_binary_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(num_sources=3)
    moment = torch.arange(4000)
    sources = torch.stack([torch.sin(pitch * moment) for pitch in (0.2, 0.7, 1.5)])[None]
    talkers = dominant_talker(model.transform(sources))
    turned = torch.linalg.qr(torch.randn(8, 3)).Q
    monkeypatch.setattr(model, "embeddings", lambda spectrum, frame_lengths: talkers @ turned.T)
    mixture = sources.sum(1)
    masks = model.masks(model.transform(mixture), None)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(masks.sum(1), torch.ones_like(masks[:, 0]))
    assert (pit_si_snr(model(mixture), sources).values > 20).all()


def test_rows_of_targets_and_weights_are_frames_of_bins() -> None:
    sources = torch.rand(2, 3, 5, 7)  # B, S, K, F
    targets = dominant_talker(sources)
    assert targets.shape == (2, 35, 3)
    for frame, frequency in ((0, 4), (3, 0), (6, 2)):
        assert targets[1, frame * 5 + frequency].argmax() == sources[1, :, frequency, frame].argmax()


def test_bins_below_the_threshold_are_not_loud() -> None:
    spectrum = torch.tensor([[[1.0, 0.02, 0.005]], [[100.0, 2.0, 0.5]]])
    assert loud_bins(spectrum, -40.0).tolist() == [[[True, True, False]], [[True, True, False]]]


def test_embeddings_have_unit_length_and_do_not_see_the_gain() -> None:
    model = tiny()
    mixture = torch.randn(2, 1000)
    with torch.no_grad():
        vectors = model.embeddings(model.transform(mixture))
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:2]))
        torch.testing.assert_close(model(0.01 * mixture), 0.01 * model(mixture), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("variant", [{}, {"num_sources": 3, "hop_length": 64}])
def test_padding_changes_nothing(variant: dict[str, Any], check_padding: Any) -> None:
    check_padding(tiny(**variant))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "pit"}, "objective is 'pit'"),
        ({"weights": "phase"}, "weights is 'phase'"),
        ({"threshold_db": 3.0}, "threshold_db"),
        ({"embedding_size": 2, "num_sources": 3}, "embedding_size"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepClusteringConfig(**values)


def test_the_whitened_loss_is_the_error_of_k_means_on_whitened_embeddings() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2, 80, 5, generator=generator)
    talkers = torch.randint(3, (2, 80), generator=generator)
    targets = torch.nn.functional.one_hot(talkers, 3).float()
    weights = torch.rand(2, 80, generator=generator)
    expected = []
    for v, y, w in zip(embeddings.double(), targets.double(), (weights / weights.sum(1, True)).double(), strict=True):
        v, y = w.sqrt()[:, None] * v, w.sqrt()[:, None] * y
        values, vectors = torch.linalg.eigh(v.T @ v)
        white = v @ vectors @ torch.diag(values.rsqrt()) @ vectors.T
        centres = torch.linalg.inv(y.T @ y) @ y.T @ white
        expected.append((white - y @ centres).square().sum())
    torch.testing.assert_close(
        whitened_loss(embeddings, targets, weights).double(), torch.stack(expected), atol=1e-3, rtol=1e-3
    )


def test_the_whitened_loss_is_finite_in_silence_and_without_a_talker() -> None:
    embeddings = torch.ones(1, 10, 4, requires_grad=True)
    targets = torch.eye(2)[torch.zeros(1, 10, dtype=torch.long)]
    for weights in (torch.zeros(1, 10), torch.ones(1, 10)):
        loss = whitened_loss(embeddings, targets, weights).sum()
        (gradient,) = torch.autograd.grad(loss, embeddings)
        assert loss.isfinite()
        assert gradient.isfinite().all()
