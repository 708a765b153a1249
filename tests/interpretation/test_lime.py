"""LIME: captum's published figures, scikit-learn's fits, exact Shapley values, and what a mask of it must show."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnLasso
from captum.attr import Lime
from captum.attr._core.lime import get_exp_kernel_similarity_function
from sklearn.linear_model import Lasso, Ridge
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.interpretation.lime import (
    LIME,
    LIMEConfig,
    best_segments,
    explain_segments,
    fit_linear,
    fit_shapley,
    random_states,
    score_states,
    shapley_states,
)
from auriscope.interpretation.segments import source_segments
from auriscope.pretrained import model_class

# Of captum's tests: the network, the input and what its weights must be (tests/attr/test_lime.py, test_kernel_shap.py).
INPUT = torch.tensor([20.0, 50.0, 30.0]).reshape(1, 1, 3)
EACH = torch.arange(3).reshape(1, 3)


def two_layers(x: Tensor) -> Tensor:
    """The first output of captum's ``BasicModel_MultiLayer``, as its own definition gives it, (batch,)."""
    total = x.flatten(1).sum(1)
    return (total - 10).clamp(min=0) + 3 * (total + 1).clamp(min=0) - 1


@pytest.mark.parametrize("max_batch", [1, 3, 64])
def test_captums_published_weights(max_batch: int) -> None:
    config = LIMEConfig(num_samples=500, kernel_width=10.0, penalty="lasso", alpha=1.0, max_batch=max_batch)
    found = explain_segments(two_layers, INPUT, EACH, config)
    torch.testing.assert_close(found.weights, torch.tensor([73.3716, 193.3349, 113.3349]).double(), rtol=0, atol=1.0)
    both = torch.tensor([[0, 0, 1]])
    found = explain_segments(two_layers, INPUT, both, config)
    torch.testing.assert_close(found.weights, torch.tensor([271.0, 111.0]).double(), rtol=0, atol=1.0)


def test_captums_published_shapley_values() -> None:
    # All eight sets of three segments, and 500 drawn ones.
    exact = explain_segments(two_layers, INPUT, EACH, LIMEConfig(kernel="shapley", num_samples=500))
    expected = torch.tensor([76.66666, 196.66666, 116.66666]).double()
    torch.testing.assert_close(exact.weights, expected, rtol=0, atol=1e-3)
    found = explain_segments(two_layers, INPUT, torch.tensor([[0, 0, 1]]), LIMEConfig(kernel="shapley"))
    torch.testing.assert_close(found.weights, torch.tensor([275.0, 115.0]).double(), rtol=0, atol=1e-3)
    whole = explain_segments(two_layers, INPUT, torch.zeros(1, 3, dtype=torch.int64), LIMEConfig(kernel="shapley"))
    assert whole.weights.item() == pytest.approx(390.0)


def scored(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """An input (1, 1, number) and labels, each value a segment."""
    x = torch.rand(1, 1, number, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(number).reshape(1, number)


def interacting(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    return torch.sigmoid(flat @ torch.linspace(-2, 3, flat.shape[1]) + 2 * flat[:, 0] * flat[:, -1])


def slow_shapley(x: Tensor) -> list[float]:
    """Shapley values from their definition, a mean over the orders in which segments come."""
    number = x.shape[-1]
    values = [0.0] * number
    for order in itertools.permutations(range(number)):
        there = torch.zeros_like(x)
        before = interacting(there[None]).item()
        for index in order:
            there[..., index] = x[..., index]
            after = interacting(there[None]).item()
            values[index] += (after - before) / math.factorial(number)
            before = after
    return values


def test_shapley_values_are_exact_if_every_set_is_seen_and_near_if_not() -> None:
    x, segments = scored(5)
    expected = torch.tensor(slow_shapley(x)).double()
    exact = explain_segments(interacting, x, segments, LIMEConfig(kernel="shapley", num_samples=32))
    torch.testing.assert_close(exact.weights, expected, rtol=0, atol=1e-5)
    near = explain_segments(interacting, x, segments, LIMEConfig(kernel="shapley", num_samples=31))
    assert 1e-6 < (near.weights - expected).abs().max() < 0.05
    for found in (exact, near):
        whole = interacting(x[None]).item() - interacting(torch.zeros_like(x)[None]).item()
        assert found.weights.sum().item() == pytest.approx(whole, abs=1e-6)
        assert 0.9 < found.fit <= 1


@pytest.mark.parametrize(("penalty", "alpha"), [("ridge", 1.0), ("ridge", 0.0), ("lasso", 0.01), ("lasso", 0.2)])
def test_fits_are_scikit_learns(penalty: str, alpha: float) -> None:
    x, segments = scored(9, seed=1)
    states, weights = random_states(9, LIMEConfig(num_samples=200))
    scores = score_states(interacting, x, segments, states, 64)
    found = fit_linear(states.double(), weights, scores, penalty=penalty, alpha=alpha)
    peer = Ridge(alpha=alpha) if penalty == "ridge" else Lasso(alpha=alpha, tol=1e-10, max_iter=100_000)
    peer.fit(states.double().numpy(), scores.numpy(), sample_weight=weights.numpy())
    np.testing.assert_allclose(found.weights.numpy(), peer.coef_, atol=1e-6)
    assert found.intercept == pytest.approx(float(peer.intercept_), abs=1e-6)
    expected = peer.score(states.double().numpy(), scores.numpy(), sample_weight=weights.numpy())
    assert found.fit == pytest.approx(expected, abs=1e-6)


def test_lime_is_captums_on_the_same_black_box() -> None:
    # captum measures the distance between inputs; with values of one size it is that of the segments.
    x, segments = torch.full((1, 1, 6), 0.5), torch.arange(6).reshape(1, 6)
    found = explain_segments(
        interacting, x, segments, LIMEConfig(num_samples=4000, kernel_width=0.5, alpha=1e-3, penalty="lasso")
    )
    torch.manual_seed(0)
    peer = Lime(
        interacting,
        interpretable_model=SkLearnLasso(alpha=1e-3),
        similarity_func=get_exp_kernel_similarity_function("cosine", 0.5),
    )
    theirs = peer.attribute(x[None], n_samples=4000, perturbations_per_eval=500).flatten().double()
    torch.testing.assert_close(found.weights, theirs, rtol=0, atol=0.02)
    assert theirs.max() - theirs.min() > 0.4


def test_what_is_drawn_twice_is_classified_once_in_batches() -> None:
    x, segments = scored(4)
    seen = []

    def counting(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return interacting(batch)

    merged = explain_segments(counting, x, segments, LIMEConfig(num_samples=1000, max_batch=10))
    assert seen == [10, 6]
    states, weights = random_states(4, LIMEConfig(num_samples=1000))
    every = fit_linear(states.double(), weights, score_states(interacting, x, segments, states, 300))
    torch.testing.assert_close(merged.weights, every.weights)
    assert merged.intercept == pytest.approx(every.intercept)
    assert merged.fit == pytest.approx(every.fit)


@pytest.mark.parametrize("kernel", ["cosine", "shapley"])
def test_segments_that_are_empty_anyway_are_not_told_apart_and_weigh_nothing(kernel: str) -> None:
    x, segments = scored(12)
    x[..., 3:8] = 0.0
    seen = []

    def counting(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return interacting(batch)

    config = LIMEConfig(num_samples=1000, kernel=kernel)
    found = explain_segments(counting, x, segments, config)
    states, weights = (random_states if kernel == "cosine" else shapley_states)(12, config)
    assert sum(seen) == len((states & (x[0, 0] > 0)).unique(dim=0)) <= 2**7 < len(states.unique(dim=0))
    assert found.weights[3:8].tolist() == [0.0] * 5
    # The same as masks, and the same scores as of every sample one by one.
    masks = torch.nn.functional.one_hot(segments).movedim(-1, 0).float()
    torch.testing.assert_close(explain_segments(interacting, x, masks, config).weights, found.weights)
    scores = score_states(interacting, x, segments, states)
    live = [*range(3), *range(8, 12)]
    if kernel == "cosine":
        slow = fit_linear(states[:, live].double(), weights, scores)
    else:
        order = [0, *range(2, len(states)), 1]
        slow = fit_shapley(states[order][:, live].double(), weights[order], scores[order])
    torch.testing.assert_close(found.weights[live], slow.weights)


@pytest.mark.parametrize("kernel", ["cosine", "shapley"])
def test_nothing_adds_nothing(kernel: str) -> None:
    found = explain_segments(interacting, torch.zeros(1, 1, 6), torch.arange(6)[None], LIMEConfig(kernel=kernel))
    assert found.weights.tolist() == [0.0] * 6
    assert found.intercept == 0.5
    assert math.isnan(found.fit)


def test_weights_fall_with_what_is_left_out() -> None:
    states, weights = random_states(10, LIMEConfig(num_samples=300))
    assert states[0].all()
    assert weights[0] == 1.0
    assert 0.45 < states[1:].double().mean() < 0.55
    sizes = states.sum(1)
    order = [weights[sizes == size][0].item() for size in sorted(set(sizes.tolist()))]
    assert order == sorted(order)
    half = 1 - math.sqrt(0.5)
    assert weights[sizes == 5][0].item() == pytest.approx(math.sqrt(math.exp(-(half**2) / 0.25**2)))
    assert torch.equal(states, random_states(10, LIMEConfig(num_samples=300))[0])
    assert not torch.equal(states, random_states(10, LIMEConfig(num_samples=300, seed=1))[0])


def test_sizes_of_shapley_samples_follow_its_kernel() -> None:
    states, weights = shapley_states(40, LIMEConfig(num_samples=20_002))
    sizes = states[2:].sum(1)
    assert (sizes.min().item(), sizes.max().item()) == (1, 39)
    share = (sizes == 1).double().mean().item() / (sizes == 20).double().mean().item()
    assert share == pytest.approx(20 * 20 / 39, rel=0.15)
    assert weights[:2].tolist() == [0.0, 0.0]
    assert weights[2:].unique().tolist() == [1.0]


def test_segments_may_be_masks_and_then_all_of_them_are_the_input() -> None:
    magnitude = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    masks = source_segments(magnitude)[0]
    x = torch.rand(1, 4, 5, generator=torch.Generator().manual_seed(1))
    labels = masks.argmax(0)
    hard = torch.stack([(labels == index).float() for index in range(3)])
    states = torch.tensor([[True, True, True], [False, True, False], [False, False, False]])
    inputs: list[Tensor] = []

    def keep(batch: Tensor) -> Tensor:
        inputs.append(batch)
        return batch.sum((1, 2, 3))

    score_states(keep, x, masks, states, 8)
    torch.testing.assert_close(inputs[0][0], x)
    torch.testing.assert_close(inputs[0][1], masks[1:2] * x)
    assert inputs[0][2].abs().max() == 0
    torch.testing.assert_close(score_states(keep, x, hard, states, 8), score_states(keep, x, labels, states, 8))


@pytest.mark.parametrize(
    "wrong", [{"kernel": "cosin"}, {"penalty": "elastic"}, {"num_samples": 0}, {"kernel_width": 0.0}, {"alpha": -1.0}]
)
def test_configurations_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LIMEConfig(**wrong)


class Bright(torch.nn.Module):
    """A classifier of pictures: class 1 if the upper left corner is bright, 2 if the lower right one is."""

    labels = ("nothing", "corner", "other corner")

    def classify_maps(self, x: Tensor) -> Tensor:
        first, second = x[:, 0, 2:6, 2:6].mean((1, 2)), x[:, 0, 10:14, 10:14].mean((1, 2))
        return torch.stack((torch.full_like(first, 2.0), 8 * first, 6 * second), 1)


@pytest.fixture
def corners() -> Tensor:
    """Squares in all corners (2, 1, 16, 16), in the second picture without the first one."""
    image = torch.zeros(2, 1, 16, 16)
    for rows in (slice(2, 6), slice(10, 14)):
        for columns in (slice(2, 6), slice(10, 14)):
            image[:, :, rows, columns] = 1.0
    image[1, :, 2:6, 2:6] = 0.0
    return image


def test_superpixels_that_the_class_needs_are_the_mask(corners: Tensor) -> None:
    lime = LIME(LIMEConfig(num_samples=300, num_features=1))
    found = lime.interpret(Bright(), corners)
    assert found.label.tolist() == [1, 2]
    assert found.mask.shape == (2, 1, 16, 16)
    assert set(found.mask.unique().tolist()) == {0.0, 1.0}
    expected = torch.zeros(2, 16, 16)
    expected[0, 2:6, 2:6], expected[1, 10:14, 10:14] = 1.0, 1.0
    assert torch.equal(found.mask[:, 0] * corners[:, 0], expected)
    # The other class of the first picture, alone or in a batch.
    other = lime.interpret(Bright(), corners[:1], torch.tensor([2]))
    assert torch.equal(other.mask[:, 0] * corners[:1, 0], expected[1:])
    assert torch.equal(lime.interpret(Bright(), corners[1:]).mask, found.mask[1:])
    # What speaks for another class does not speak for this one.
    against = lime.interpret(Bright(), corners, torch.tensor([0, 0]))
    assert (against.mask[0] * corners[0])[:, 2:6, 2:6].max() == 0
    assert (against.mask[:, 0] * corners[:, 0])[:, 10:14, 10:14].max() == 0


def test_the_mask_is_of_the_highest_weights_above_zero() -> None:
    labels = torch.tensor([[0, 1], [2, 3]])
    weights = torch.tensor([0.1, -0.5, 0.7, 0.3]).double()
    assert best_segments(weights, labels, 2).tolist() == [[0, 0], [1, 1]]
    assert best_segments(weights, labels, 9).tolist() == [[1, 0], [1, 1]]
    assert best_segments(-weights.abs(), labels, 2).tolist() == [[0, 0], [0, 0]]
    masks = torch.tensor([[0.25, 1.0], [0.75, 0.0], [0.0, 0.0], [0.0, 0.0]]).reshape(4, 1, 2)
    assert best_segments(weights, masks, 3).tolist() == [[0.25, 1.0]]


def test_sounds_are_cut_into_bands_over_time_or_as_the_caller_says() -> None:
    torch.manual_seed(0)
    kind = model_class("classification/xvector")
    classifier = kind.from_config(kind.Tiny).eval()
    time = torch.arange(8000) / classifier.config.sample_rate
    tones = torch.stack([torch.sin(2 * math.pi * hertz * time) for hertz in (500.0, 3000.0)])
    spectra = classifier.spectrogram(tones).abs()
    x = classifier.spectrogram(tones.sum(0, keepdim=True)).abs()[:, None]
    lime = LIME(LIMEConfig(num_samples=100, num_spans=3, num_bands=4, num_features=2))
    found = lime.interpret(classifier, x)
    cells = lime.segments(classifier, x)
    assert cells.unique().tolist() == list(range(12))
    kept = set(cells[0][found.mask[0, 0] == 1].tolist())
    assert 1 <= len(kept) <= 2
    assert found.mask[0, 0].sum() == sum((cells == cell).sum() for cell in kept)
    sources = source_segments(spectra[None])
    by_source = LIME(LIMEConfig(num_samples=100, num_features=1)).interpret(classifier, x, segments=sources)
    distances = (sources[0] - by_source.mask[0]).abs().amax((1, 2))
    assert distances.min() < 1e-6
    assert distances.max() > 0.5


def test_a_class_that_does_not_exist_is_refused(corners: Tensor) -> None:
    with pytest.raises(AuriscopeError, match="no class number 3"):
        LIME().interpret(Bright(), corners, torch.tensor([0, 3]))
