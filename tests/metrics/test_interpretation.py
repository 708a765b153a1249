"""Figures of interpretations: exact values at the ends, slow references, and the mistakes that existing code makes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from auriscope.metrics import Accumulator, FrechetAccumulator
from auriscope.metrics.interpretation import (
    average_drop,
    average_gain,
    average_increase,
    complexity,
    faithfulness,
    frechet_distance,
    input_fidelity,
    interpretation_values,
    sparseness,
)

BATCH, CLASSES = 16, 5


@pytest.fixture
def classifier() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, CLASSES)).requires_grad_(False)


@pytest.fixture
def image(generator: torch.Generator) -> Tensor:
    return torch.rand(BATCH, 1, 8, 8, generator=generator)


def values_of(classifier: torch.nn.Module, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Every figure of a mask (batch, 1, height, width), of the class that is decided on."""
    logits = classifier(image)
    inside, without = classifier(mask * image), classifier((1 - mask) * image)
    return interpretation_values(logits, inside, without, logits.argmax(1), mask)


def test_the_whole_input_has_all_fidelity_and_neither_drop_nor_increase_nor_gain(
    classifier: torch.nn.Module, image: Tensor
) -> None:
    values = values_of(classifier, image, torch.ones(BATCH, 1, 8, 8))
    assert values["input_fidelity"].tolist() == [1.0] * BATCH
    for name in ("average_drop", "average_increase", "average_gain", "sparseness"):
        assert values[name].tolist() == [0.0] * BATCH
    torch.testing.assert_close(values["complexity"], torch.full((BATCH,), math.log(64), dtype=torch.float64))
    # What is left is nothing, so the class's probability falls to that of an empty input.
    before = classifier(image).double().softmax(1)
    empty = classifier(torch.zeros_like(image)).double().softmax(1)
    expected = before.max(1).values - empty.gather(1, before.argmax(1, keepdim=True)).squeeze(1)
    torch.testing.assert_close(values["faithfulness"], expected)


def test_nothing_has_no_faithfulness_and_the_drop_of_an_empty_input(classifier: torch.nn.Module, image: Tensor) -> None:
    values = values_of(classifier, image, torch.zeros(BATCH, 1, 8, 8))
    assert values["faithfulness"].tolist() == [0.0] * BATCH
    before = classifier(image).double().softmax(1)
    label = before.argmax(1)
    empty = classifier(torch.zeros_like(image)).double().softmax(1)
    assert values["input_fidelity"].tolist() == (empty.argmax(1) == label).double().tolist()
    assert 0 < values["input_fidelity"].mean() < 1
    ratio = empty.gather(1, label[:, None])[:, 0] / before.max(1).values
    torch.testing.assert_close(values["average_drop"], (1 - ratio).clamp(min=0))
    # An empty map is neither sparse nor complex, and an accumulator counts it apart.
    assert values["sparseness"].isnan().all()
    assert values["complexity"].isnan().all()
    gathered = Accumulator()
    gathered.update(values)
    summary = gathered.compute()
    assert (summary["sparseness"].mean, summary["sparseness"].num_excluded) == (None, BATCH)
    assert summary["average_drop"].num_values == BATCH


@pytest.mark.parametrize(
    ("inside", "before", "drop", "increase", "gain"),
    [
        (0.25, 0.5, 0.5, 0.0, 0.0),
        (0.75, 0.5, 0.0, 1.0, 0.5),
        (0.5, 0.5, 0.0, 0.0, 0.0),
        (0.0, 1.0, 1.0, 0.0, 0.0),
        (1.0, 0.0, 0.0, 1.0, 1.0),
        (1.0, 1.0, 0.0, 0.0, 0.0),
        (0.0, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_drop_increase_and_gain_are_what_their_papers_say(
    inside: float, before: float, drop: float, increase: float, gain: float
) -> None:
    after, first = (torch.tensor([[1 - p, p]], dtype=torch.float64) for p in (inside, before))
    label = torch.tensor([1])
    assert average_drop(after, first, label).item() == drop
    assert average_increase(after, first, label).item() == increase
    assert average_gain(after, first, label).item() == gain
    assert faithfulness(first, after, label).item() == before - inside


def test_one_softmax_is_taken_not_two() -> None:
    inside, before = (torch.tensor([[1 - p, p]], dtype=torch.float64) for p in (0.2, 0.8))
    label, mask = torch.tensor([1]), torch.ones(1, 4)
    values = interpretation_values(before.log(), inside.log(), inside.log(), label, mask)
    assert values["average_drop"].item() == pytest.approx(0.75)
    assert values["faithfulness"].item() == pytest.approx(0.6)
    twice = 1 - (inside.softmax(1) / before.softmax(1))[0, 1].item()
    assert abs(twice - 0.75) > 0.1, "the mistake would show"
    with pytest.raises(ValueError, match="probabilities already"):
        interpretation_values(before, inside, inside, label, mask)
    for function in (average_drop, average_increase, average_gain):
        with pytest.raises(ValueError, match="no probabilities"):
            function(inside.log(), before.log(), label)
    with pytest.raises(ValueError, match="no probabilities"):
        faithfulness(before.log(), inside.log(), label)


def test_fidelity_compares_decisions_and_takes_no_class_numbers(generator: torch.Generator) -> None:
    first, second = torch.randn(2, 40, CLASSES, generator=generator)
    slow = [float(int(np.argmax(a)) == int(np.argmax(b))) for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    assert input_fidelity(first, second).tolist() == slow
    assert 0 < sum(slow) < 40
    # Neither the order of the classes' numbers nor that of the examples plays a part.
    order = torch.randperm(CLASSES, generator=generator)
    assert input_fidelity(first[:, order], second[:, order]).tolist() == slow
    with pytest.raises(ValueError, match=r"\(batch, classes\)"):
        input_fidelity(first, second.argmax(1))
    with pytest.raises(ValueError, match=r"\(batch, classes\)"):
        input_fidelity(first.argmax(1), second.argmax(1))


@pytest.mark.parametrize("label", [torch.zeros(3), torch.zeros(2, dtype=torch.int64)])
def test_labels_are_class_numbers_one_an_example(label: Tensor) -> None:
    probabilities = torch.full((3, 2), 0.5)
    with pytest.raises(ValueError, match="class number"):
        average_drop(probabilities, probabilities, label)


def test_saliency_of_one_point_and_of_all() -> None:
    one, same = torch.zeros(2, 1, 6, 7), torch.full((2, 1, 6, 7), -0.3)
    one[0, 0, 2, 3], one[1, 0, 5, 6] = 4.0, -1e-3
    assert sparseness(one).tolist() == [1.0, 1.0]
    assert complexity(one).tolist() == [0.0, 0.0]
    torch.testing.assert_close(sparseness(same), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(complexity(same), torch.full((2,), math.log(42), dtype=torch.float64))


def test_sparseness_and_complexity_equal_slow_ones(generator: torch.Generator) -> None:
    saliency = torch.randn(3, 1, 4, 5, generator=generator)
    for index, single in enumerate(saliency.abs().flatten(1).double().numpy()):
        # The Gini index as the mean difference of two values, over twice the mean value.
        differences = np.abs(single[:, None] - single[None, :]).sum() / (20 * 19)
        assert sparseness(saliency)[index].item() == pytest.approx(differences / (2 * single.mean()))
        shares = single / single.sum()
        assert complexity(saliency)[index].item() == pytest.approx(-(shares * np.log(shares)).sum())
    torch.testing.assert_close(sparseness(5 * saliency), sparseness(saliency))
    torch.testing.assert_close(complexity(5 * saliency), complexity(saliency))
    with pytest.raises(ValueError, match="single value"):
        sparseness(torch.ones(2, 1))


def test_frechet_distance_equals_the_square_root_of_the_product(generator: torch.Generator) -> None:
    first = torch.randn(60, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    second = 0.5 + torch.randn(50, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    covariances = [np.cov(features.double().numpy(), rowvar=False) for features in (first, second)]
    between = (first.double().mean(0) - second.double().mean(0)).square().sum().item()
    root = sqrtm(covariances[0] @ covariances[1]).real
    slow = between + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second).item() == pytest.approx(slow, rel=1e-8)
    assert frechet_distance(second, first).item() == pytest.approx(slow, rel=1e-8)


@pytest.mark.parametrize("number", [3, 40])
def test_frechet_distance_of_a_set_from_itself_moved(number: int, generator: torch.Generator) -> None:
    # Also with fewer examples than channels, where the covariance is singular.
    features = torch.randn(number, 12, generator=generator)
    assert frechet_distance(features, features).item() == pytest.approx(0, abs=1e-10)
    assert frechet_distance(features.flip(0) + 0.5, features).item() == pytest.approx(3.0, rel=1e-6)
    # Twice as wide: the means and the roots of the variances differ by what they were.
    spread = features - features.mean(0)
    wide = spread.square().sum() / (number - 1)
    assert frechet_distance(2 * spread, spread).item() == pytest.approx(wide.item(), rel=1e-6)


@pytest.mark.parametrize("shape", [(4, 3), (1, 2), (4,)])
def test_frechet_distance_refuses_what_is_no_set_of_features(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="channels"):
        frechet_distance(torch.zeros(shape), torch.zeros(5, 2))


def test_frechet_distance_is_gathered_batch_by_batch_with_an_interval(generator: torch.Generator) -> None:
    references = torch.randn(200, 4, generator=generator)
    estimates = references + 0.6 + 0.3 * torch.randn(200, 4, generator=generator)
    gathered = FrechetAccumulator()
    for start in range(0, 200, 64):
        gathered.update(estimates[start : start + 64], references[start : start + 64])
    summary = gathered.compute()
    assert summary.mean == pytest.approx(frechet_distance(estimates, references).item())
    assert summary.low is not None
    assert summary.high is not None
    assert summary.mean is not None
    assert 0 <= summary.low < summary.mean < summary.high < 2 * summary.mean
    assert gathered.compute() == summary, "the same seed draws the same"
    few = FrechetAccumulator()
    few.update(estimates[:20], references[:20])
    fewer = few.compute()
    assert fewer.low is not None
    assert fewer.high is not None
    assert fewer.high - fewer.low > summary.high - summary.low
    assert FrechetAccumulator().compute().mean is None
    with pytest.raises(ValueError, match="do not go with"):
        gathered.update(estimates[:3], references[:2])
