"""How good an interpretation of a classifier is: what the classifier makes of it, and how much of the input it takes.

An interpretation is a part of the input, most often a mask times it. Three outputs of the classifier are compared: of
the input, of the interpretation alone, and of what is left when the interpretation is taken out of the input. Every
function gives a value per example; :func:`interpretation_values` gives all of them from logits, for an
:class:`~auriscope.metrics.accumulate.Accumulator`, and :class:`FrechetAccumulator` gathers what is a property of a
whole set. All are fractions, not percent.

What takes probabilities refuses rows that are none, and what takes logits refuses rows that are probabilities, so that
no softmax is left out or taken twice.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from auriscope.metrics.accumulate import Summary

_TOLERANCE = 1e-3
"""By how much probabilities in half precision may miss a sum of one."""


def input_fidelity(logits_of_interpretation: Tensor, logits: Tensor) -> Tensor:
    """Say whether the classifier decides the same of the interpretation as of the input, 1 or 0 (batch,).

    Both are (batch, classes), logits or probabilities: only the highest counts. Raises ``ValueError`` for other shapes,
    such as that of labels.

    Source: Paissan et al., "Posthoc interpretation via quantization" (arXiv 2303.12659), section 4, FID-I; the mean
    over a set is the published figure.

    >>> input_fidelity(torch.tensor([[0.1, 2.0], [3.0, 1.0]]), torch.tensor([[0.0, 9.0], [0.5, 0.6]])).tolist()
    [1.0, 0.0]
    """
    _same_scores(logits_of_interpretation, logits)
    return (logits_of_interpretation.argmax(1) == logits.argmax(1)).double()


def faithfulness(probabilities: Tensor, probabilities_without: Tensor, label: Tensor) -> Tensor:
    """By how much the class's probability falls when the interpretation is taken out, (batch,) from -1 to 1.

    Args:
        probabilities: (batch, classes) of the input.
        probabilities_without: (batch, classes) of the input less the interpretation.
        label: (batch,) int64, the class that is explained.

    Returns:
        (batch,): f_c(x) - f_c(x - x_int), 0 for an empty interpretation.

    Source: Parekh et al., "Listen to interpret" (arXiv 2202.11479), section 4.1, faithfulness.

    >>> faithfulness(torch.tensor([[0.25, 0.75]]), torch.tensor([[0.5, 0.5]]), torch.tensor([1])).tolist()
    [0.25]
    """
    before, without = _of_class(probabilities, probabilities_without, label)
    return before - without


def average_drop(probabilities_of_interpretation: Tensor, probabilities: Tensor, label: Tensor) -> Tensor:
    """Which share of the class's probability is lost when only the interpretation is kept, (batch,) from 0 to 1.

    Args:
        probabilities_of_interpretation: (batch, classes) of the interpretation alone.
        probabilities: (batch, classes) of the input.
        label: (batch,) int64, the class that is explained.

    Returns:
        (batch,): max(0, p - o) / p with p of the input and o of the interpretation; 0 where p is 0. Less is better.

    Source: Chattopadhay et al., "Grad-CAM++" (arXiv 1710.11063), section 5.1.

    >>> average_drop(torch.tensor([[0.625, 0.375]]), torch.tensor([[0.5, 0.5]]), torch.tensor([1])).item()
    0.25
    """
    after, before = _of_class(probabilities_of_interpretation, probabilities, label)
    return _share((before - after).clamp(min=0), before)


def average_increase(probabilities_of_interpretation: Tensor, probabilities: Tensor, label: Tensor) -> Tensor:
    """Say whether the class is more probable of the interpretation alone than of the input, 1 or 0 (batch,).

    Arguments and source as in :func:`average_drop`. More is better.

    >>> average_increase(torch.tensor([[0.4, 0.6]]), torch.tensor([[0.2, 0.8]]), torch.tensor([0])).item()
    1.0
    """
    after, before = _of_class(probabilities_of_interpretation, probabilities, label)
    return (after > before).double()


def average_gain(probabilities_of_interpretation: Tensor, probabilities: Tensor, label: Tensor) -> Tensor:
    """Which share of the doubt about the class is lifted when only the interpretation is kept, (batch,) from 0 to 1.

    Arguments as in :func:`average_drop`, whose counterpart it is: max(0, o - p) / (1 - p), and 0 where p is 1. More is
    better.

    Source: Zhang et al., "Opti-CAM" (arXiv 2301.07002), section 4.1.

    >>> average_gain(torch.tensor([[0.625, 0.375]]), torch.tensor([[0.5, 0.5]]), torch.tensor([0])).item()
    0.25
    """
    after, before = _of_class(probabilities_of_interpretation, probabilities, label)
    return _share((after - before).clamp(min=0), 1.0 - before)


def sparseness(saliency: Tensor) -> Tensor:
    """Give the Gini index of a map's magnitudes, (batch,): 0 if all are alike, 1 if all but one are zero.

    ``saliency`` is (batch, ...), of either sign, two values an example at least. The index is that of a sample, which
    is N / (N - 1) times the one of a distribution, so that one value of N gives 1 and not (N - 1) / N. A map of zeros
    has none: NaN.

    Source: Chalasani et al., "Concise explanations of neural networks using adversarial training" (arXiv 1810.06583),
    section 5.1.

    >>> sparseness(torch.tensor([[0.0, 0.0, -3.0, 0.0], [2.0, 2.0, 2.0, 2.0]])).tolist()
    [1.0, 0.0]
    """
    magnitudes = _magnitudes(saliency)
    number = magnitudes.shape[1]
    if number < 2:
        raise ValueError("a map of a single value is neither sparse nor not")
    ranks = torch.arange(1, number + 1, dtype=torch.float64, device=magnitudes.device)
    weighted = (magnitudes.sort(1).values * (2.0 * ranks - number - 1.0)).sum(1)
    return weighted / ((number - 1.0) * magnitudes.sum(1))


def complexity(saliency: Tensor) -> Tensor:
    """Give the entropy of a map's magnitudes in nats, (batch,): 0 for a single value, ln N if all N are alike.

    ``saliency`` is (batch, ...), of either sign. A map of zeros has none: NaN.

    Source: Bhatt et al., "Evaluating and aggregating feature-based model explanations" (arXiv 2005.00631), section 3.3.

    >>> complexity(torch.tensor([[0.0, 0.0, -3.0, 0.0], [2.0, 2.0, 2.0, 2.0]])).tolist()
    [0.0, 1.3862943611198906]
    """
    magnitudes = _magnitudes(saliency)
    shares = magnitudes / magnitudes.sum(1, keepdim=True)
    # "+ 0" so that no entropy is -0.
    return -torch.xlogy(shares, shares).sum(1) + 0.0


def frechet_distance(estimates: Tensor, references: Tensor) -> Tensor:
    """Give the Fréchet distance of the normal distributions fitted to two sets of features, a scalar: 0 if alike.

    ``estimates`` (examples, channels) and ``references`` (as many or other examples, channels), two examples each at
    least: those that a classifier has of interpretations and of inputs. The covariances may be singular, as with fewer
    examples than channels.

    Source: Heusel et al., "GANs trained by a two time-scale update rule" (arXiv 1706.08500), equation 6. The trace of
    (C₁ C₂)^½ is the sum of the singular values of R₁ R₂ᵀ, where Rᵢ is what a QR decomposition leaves of the centred
    features over √(n - 1): C = RᵀR. So no square root of a matrix is taken, whose rounding errors are the distance.

    >>> features = torch.tensor([[0.0, 1.0], [2.0, 5.0], [4.0, 3.0]])
    >>> round(frechet_distance(features + torch.tensor([3.0, 4.0]), features).item(), 6)
    25.0
    """
    for features in (estimates, references):
        if features.dim() != 2 or features.shape[1] != references.shape[-1] or len(features) < 2:
            raise ValueError(
                f"features {tuple(estimates.shape)} and {tuple(references.shape)} are not (examples, channels), "
                "two examples or more, of the same channels"
            )
    (first_mean, first), (second_mean, second) = _moments(estimates), _moments(references)
    common = torch.linalg.svdvals(first @ second.mT).sum()
    spread = first.square().sum() + second.square().sum() - 2.0 * common
    distance: Tensor = (first_mean - second_mean).square().sum() + spread
    return distance.clamp(min=0)


def interpretation_values(
    logits: Tensor,
    logits_of_interpretation: Tensor,
    logits_without: Tensor,
    label: Tensor,
    saliency: Tensor,
) -> dict[str, Tensor]:
    """Give every figure of an interpretation that an example has, by name, each (batch,).

    Args:
        logits: (batch, classes) of the input, as the classifier gives them, before any softmax.
        logits_of_interpretation: those of the interpretation alone.
        logits_without: those of the input less the interpretation.
        label: (batch,) int64, the class that is explained.
        saliency: (batch, ...) the mask, or what it was made of.

    Returns:
        ``input_fidelity``, ``faithfulness``, ``average_drop``, ``average_increase``, ``average_gain``, ``sparseness``
        and ``complexity``; what an empty map does not have is NaN, which an accumulator leaves out and counts.

    Raises ``ValueError`` if probabilities are given for logits, of which a second softmax would be taken.
    """
    inside, before, without = (_probabilities(given) for given in (logits_of_interpretation, logits, logits_without))
    return {
        "input_fidelity": input_fidelity(logits_of_interpretation, logits),
        "faithfulness": faithfulness(before, without, label),
        "average_drop": average_drop(inside, before, label),
        "average_increase": average_increase(inside, before, label),
        "average_gain": average_gain(inside, before, label),
        "sparseness": sparseness(saliency),
        "complexity": complexity(saliency),
    }


class FrechetAccumulator:
    """Gathers features of interpretations and of their inputs, and gives their Fréchet distance with an interval.

    >>> accumulator = FrechetAccumulator()
    >>> accumulator.update(torch.eye(3), torch.eye(3))
    >>> accumulator.compute().mean
    0.0
    """

    def __init__(self) -> None:
        self._estimates: list[Tensor] = []
        self._references: list[Tensor] = []

    def update(self, estimates: Tensor, references: Tensor) -> None:
        """Add a batch: features (batch, channels) of interpretations, and of the inputs they are of."""
        if estimates.shape != references.shape or estimates.dim() != 2:
            raise ValueError(
                f"features {tuple(estimates.shape)} do not go with features {tuple(references.shape)}: "
                "both are (batch, channels)"
            )
        self._estimates.append(estimates.detach().cpu().double())
        self._references.append(references.detach().cpu().double())

    def compute(self, *, confidence: float = 0.95, num_resamples: int = 200, seed: int = 0) -> Summary:
        """Give the distance as ``mean`` and its bootstrap interval, inputs being drawn with their interpretations.

        Draws repeat examples, which narrows their distributions and shifts the distance. So the interval is that of the
        draws about their own mean, laid around the distance of the whole set; it does not reach below zero. Without two
        examples there is neither.
        """
        number = sum(len(part) for part in self._estimates)
        if number < 2:
            return Summary(None, None, None, number, 0)
        estimates, references = torch.cat(self._estimates), torch.cat(self._references)
        distance = frechet_distance(estimates, references).item()
        rng = np.random.default_rng(seed)
        drawn = np.empty(num_resamples)
        for index in range(num_resamples):
            chosen = torch.from_numpy(rng.integers(number, size=number))
            drawn[index] = frechet_distance(estimates[chosen], references[chosen]).item()
        tail = 50.0 * (1.0 - confidence)
        low, high = distance + np.percentile(drawn - drawn.mean(), [tail, 100.0 - tail])
        return Summary(distance, max(0.0, float(low)), float(high), number, 0)


def _same_scores(first: Tensor, second: Tensor) -> None:
    if first.dim() != 2 or first.shape != second.shape:
        raise ValueError(
            f"scores {tuple(first.shape)} do not go with scores {tuple(second.shape)}: both are (batch, classes)"
        )


def _are_probabilities(scores: Tensor) -> bool:
    scores = scores.double()
    return bool((scores >= 0).all() and ((scores.sum(1) - 1.0).abs() <= _TOLERANCE).all())


def _of_class(first: Tensor, second: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Give the class's probability (batch,) in both of (batch, classes)."""
    _same_scores(first, second)
    if label.shape != first.shape[:1] or label.is_floating_point():
        raise ValueError(
            f"labels {tuple(label.shape)} of {label.dtype} are not a class number for each of {len(first)}"
        )
    for scores in (first, second):
        if not _are_probabilities(scores):
            raise ValueError(
                "these are no probabilities, which are positive and sum to one: take the softmax of logits"
            )
    index = label.unsqueeze(1)
    return first.double().gather(1, index).squeeze(1), second.double().gather(1, index).squeeze(1)


def _probabilities(logits: Tensor) -> Tensor:
    if logits.dim() == 2 and logits.numel() and _are_probabilities(logits):
        raise ValueError("these are probabilities already: give the classifier's logits, of which the softmax is taken")
    return logits.double().softmax(-1)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Divide, nothing of nothing being 0."""
    return torch.where(whole > 0, part / whole.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def _magnitudes(saliency: Tensor) -> Tensor:
    return saliency.detach().double().abs().flatten(1)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Give the mean (channels,) and a root R of the covariance RᵀR."""
    features = features.double()
    mean = features.mean(0)
    centred = (features - mean) / (len(features) - 1) ** 0.5
    return mean, torch.linalg.qr(centred, mode="r").R
