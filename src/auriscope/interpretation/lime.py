"""LIME: what each part of an input adds to a class, found by leaving parts of it out many times.

The input is cut into segments (:mod:`auriscope.interpretation.segments`): superpixels of a picture, bands over time of
a spectrogram, separated sources. Many times some of them are left out, drawn by chance, and the classifier tells how
probable the class still is. A linear model of which segments were there, fitted with more weight on what is nearer to
the whole input, gives each segment's weight; the segments with the highest ones are the interpretation.

Sources: Ribeiro, Singh and Guestrin, "Why should I trust you?" (arXiv 1602.04938), sections 3.3 and 3.4, and, for
``kernel="shapley"``, Lundberg and Lee, "A unified approach to interpreting model predictions" (arXiv 1705.07874),
section 4.1, theorem 2: then the weights are Shapley values. For sound: Mishra, Sturm and Dixon (ISMIR 2017) and
Haunschmid, Manilow and Widmer (arXiv 2008.00582).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from auriscope.interpretation.interpreter import Interpretation, Interpreter, explained_label
from auriscope.interpretation.segments import superpixels, time_frequency_segments
from auriscope.nn.maps import Classifies
from auriscope.nn.masks import choice

Score = Callable[[Tensor], Tensor]
"""What is explained: inputs (batch, channels, height, width) to a score of each (batch,)."""

KERNELS = ("cosine", "shapley")
PENALTIES = ("lasso", "ridge")
_CACHED = 1 << 19
"""Values of inputs that are classified at once on a CPU: so the maps of a small network stay in its cache."""
_CONVERGED = 1e-7
_MAX_ROUNDS = 10_000


@dataclass(frozen=True)
class LIMEConfig:
    """How LIME draws, weighs, fits and shows.

    ``num_samples`` times segments are left out. ``kernel`` "cosine" weighs a sample by √exp(-d²/``kernel_width``²)
    with d its cosine distance from all segments; "shapley" draws and weighs them so that the weights found are Shapley
    values, for which ``penalty`` and ``alpha`` play no part. ``penalty`` on the weights is "ridge" or "lasso", and
    ``alpha`` its strength as in scikit-learn. The mask is of the ``num_features`` segments with the highest weights
    above zero.

    ``kernel_size``, ``max_distance`` and ``ratio`` are of superpixels: LIME's own 4 and 200 are for photographs, and
    find one or two in a picture of 28 x 28 pixels. ``num_spans`` and ``num_bands`` are of spectrograms. ``max_batch``
    inputs are classified at once; None is as many as stay in the cache of a CPU, or 256 on another device.
    """

    num_samples: int = 1000
    kernel: str = "cosine"
    kernel_width: float = 0.25
    penalty: str = "ridge"
    alpha: float = 1.0
    num_features: int = 5
    kernel_size: float = 1.0
    max_distance: float = 6.0
    ratio: float = 0.2
    num_spans: int = 8
    num_bands: int = 8
    max_batch: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        choice(self.kernel, KERNELS, "kernel")
        choice(self.penalty, PENALTIES, "penalty")
        for name in ("num_samples", "num_features", "num_spans", "num_bands", "max_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1")
        if min(self.kernel_width, self.kernel_size, self.max_distance) <= 0 or min(self.alpha, self.ratio) < 0:
            raise ValueError("kernel_width, kernel_size and max_distance must be above 0, alpha and ratio at least 0")


@dataclass(frozen=True)
class Surrogate:
    """The linear model in the classifier's place: ``weights`` (segments,) float64 and ``intercept``.

    ``fit`` is the share of the scores' weighted variance that it explains; NaN if all scores are the same.
    """

    weights: Tensor
    intercept: float
    fit: float


class LIME(Interpreter):
    """Explain by the segments that a class needs most; any classifier will do.

    Pictures are cut into superpixels and recordings into bands over time, unless other segments are given.
    """

    method: ClassVar[str] = "lime"

    def __init__(self, config: LIMEConfig | None = None) -> None:
        self.config = config or LIMEConfig()

    @torch.no_grad()
    def interpret(
        self, classifier: Classifies, x: Tensor, label: Tensor | None = None, segments: Tensor | None = None
    ) -> Interpretation:
        """Explain what the classifier makes of a batch; see :meth:`Interpreter.interpret`.

        ``segments`` are labels (batch, height, width) or masks (batch, segments, height, width), such as
        :func:`~auriscope.interpretation.segments.source_segments` makes of separated sources. If no segment speaks for
        the class, the mask is empty.
        """
        label = explained_label(classifier.classify_maps(x), label)
        segments = self.segments(classifier, x) if segments is None else segments
        masks = []
        for one, parts, number in zip(x, segments, label.tolist(), strict=True):

            def score(batch: Tensor, number: int = number) -> Tensor:
                return classifier.classify_maps(batch).softmax(1)[:, number]

            found = explain_segments(score, one, parts, self.config)
            masks.append(best_segments(found.weights.to(x.device), parts, self.config.num_features).to(x.dtype))
        return Interpretation(torch.stack(masks)[:, None], label)

    def segments(self, classifier: Classifies, x: Tensor) -> Tensor:
        """Cut a batch (batch, channels, height, width) as the classifier's kind asks, (batch, height, width) int64."""
        config = self.config
        sample_rate = getattr(getattr(classifier, "config", None), "sample_rate", 0)
        if not sample_rate:
            return superpixels(
                x,
                kernel_size=config.kernel_size,
                max_distance=config.max_distance,
                ratio=config.ratio,
                seed=config.seed,
            )
        bands = time_frequency_segments(
            *x.shape[2:], num_spans=config.num_spans, num_bands=config.num_bands, sample_rate=sample_rate
        )
        return bands.to(x.device).expand(len(x), -1, -1)


def best_segments(weights: Tensor, segments: Tensor, number: int) -> Tensor:
    """Give the mask (height, width) of those ``number`` segments with the highest weights above zero.

    ``weights`` (segments,), and ``segments`` as in :func:`explain_segments`.
    """
    best = weights.topk(min(number, len(weights))).indices
    chosen = torch.zeros_like(weights).index_fill_(0, best, 1.0) * (weights > 0)
    if segments.dim() == 2:
        return chosen[segments]
    return torch.einsum("s,shw->hw", chosen.to(segments.dtype), segments).clamp(max=1.0)


@torch.no_grad()
def explain_segments(score: Score, x: Tensor, segments: Tensor, config: LIMEConfig | None = None) -> Surrogate:
    """Find what each segment of one input adds to its score.

    Args:
        score: of inputs (batch, channels, height, width), (batch,); it is called with at most ``max_batch``.
        x: (channels, height, width).
        segments: labels (height, width) int64 from 0 without gaps, or masks (segments, height, width) that sum to one.
        config: see :class:`LIMEConfig`.

    What was drawn more than once is classified once. So is what is the same input because a segment, such as the
    background of a digit, is empty anyway: such a segment adds nothing, and its weight is 0.
    """
    config = config or LIMEConfig()
    size = x.abs().amax(0)
    if segments.dim() == 2:
        num_segments = int(segments.max()) + 1
        inside = size.new_zeros(num_segments).index_add_(0, segments.flatten(), size.flatten())
    else:
        num_segments = len(segments)
        inside = (segments * size).sum((1, 2))
    live = (inside > 0).cpu()
    states, weights = (shapley_states if config.kernel == "shapley" else random_states)(num_segments, config)
    states, inverse = torch.unique(states, dim=0, return_inverse=True)
    weights = torch.zeros(len(states), dtype=torch.float64).index_add_(0, inverse, weights)
    different, inverse = torch.unique(states & live, dim=0, return_inverse=True)
    scores = score_states(score, x, segments, different, config.max_batch)[inverse]
    found = torch.zeros(num_segments, dtype=torch.float64)
    if not live.any():
        return Surrogate(found, float(scores[0]), math.nan)
    states = states[:, live].double()
    if config.kernel == "shapley":
        surrogate = fit_shapley(states, weights, scores)
    else:
        surrogate = fit_linear(states, weights, scores, penalty=config.penalty, alpha=config.alpha)
    found[live] = surrogate.weights
    return dataclasses.replace(surrogate, weights=found)


def random_states(num_segments: int, config: LIMEConfig) -> tuple[Tensor, Tensor]:
    """Draw which segments stay, (num_samples, segments) bool, the first time all, and the weight (num_samples,)."""
    generator = torch.Generator().manual_seed(config.seed)
    states = torch.rand(config.num_samples, num_segments, generator=generator) < 0.5
    states[0] = True
    # The cosine of the angle between k ones among M places and M ones.
    distance = 1.0 - (states.double().mean(1)).sqrt()
    return states, (-0.5 * (distance / config.kernel_width).square()).exp()


def shapley_states(num_segments: int, config: LIMEConfig) -> tuple[Tensor, Tensor]:
    """Draw which segments stay, (samples, segments) bool, with weights (samples,) of the Shapley kernel.

    None and all of them come first. Where there are no more than ``num_samples`` sets of segments, it is every set
    once, weighed by the kernel: then the values are exact. Else sizes are drawn by the kernel, and weigh the same.
    """
    ends = torch.tensor([[False], [True]]).expand(-1, num_segments)
    sizes = torch.arange(1, num_segments, dtype=torch.float64)
    by_size = (num_segments - 1) / (sizes * (num_segments - sizes))
    if num_segments < 2:
        return ends, torch.zeros(2, dtype=torch.float64)
    if num_segments < 31 and 2**num_segments <= config.num_samples:
        numbers = torch.arange(1, 2**num_segments - 1)
        states = (numbers[:, None] >> torch.arange(num_segments)) % 2 == 1
        each = torch.tensor([math.comb(num_segments, size) for size in range(1, num_segments)], dtype=torch.float64)
        weights = (by_size / each)[states.sum(1) - 1]
    else:
        generator = torch.Generator().manual_seed(config.seed)
        count = max(1, config.num_samples - 2)
        size = 1 + torch.multinomial(by_size, count, replacement=True, generator=generator)
        ranks = torch.rand(count, num_segments, generator=generator).argsort(1).argsort(1)
        states, weights = ranks < size[:, None], torch.ones(count, dtype=torch.float64)
    return torch.cat((ends, states)), torch.cat((torch.zeros(2, dtype=torch.float64), weights))


def score_states(score: Score, x: Tensor, segments: Tensor, states: Tensor, max_batch: int | None = None) -> Tensor:
    """Score one input (channels, height, width) with so many selections of its segments: (states,) float64 on the CPU.

    ``segments`` as in :func:`explain_segments`, ``states`` (states, segments) bool, ``max_batch`` as in the
    configuration.
    """
    if max_batch is None:
        max_batch = min(64, max(1, _CACHED // x.numel())) if x.device.type == "cpu" else 256
    scores = []
    for chosen in torch.split(states.to(x.device), max_batch):
        if segments.dim() == 2:
            masks = chosen.to(x.dtype).index_select(1, segments.flatten()).reshape(-1, 1, *segments.shape)
        else:
            masks = torch.einsum("ns,shw->nhw", chosen.to(x.dtype), segments.to(x.dtype)).unsqueeze(1)
        left = masks * x
        if x.device.type == "cpu":
            # So laid out, convolutions on a CPU take two thirds of the time.
            left = left.to(memory_format=torch.channels_last)
        scores.append(score(left).double().cpu())
    return torch.cat(scores)


def fit_linear(
    states: Tensor, weights: Tensor, scores: Tensor, *, penalty: str = "ridge", alpha: float = 1.0
) -> Surrogate:
    """Fit a weighted linear model with an intercept, as scikit-learn's ``Ridge`` and ``Lasso`` do with sample weights.

    Args:
        states: (samples, segments) float64.
        weights: (samples,) float64, not negative.
        scores: (samples,) float64.
        penalty: "ridge", Σ w (y - Xb)² + alpha Σ b², or "lasso", Σ w (y - Xb)² / (2 Σ w) + alpha ‖b‖₁.
        alpha: its strength.
    """
    total = weights.sum()
    share = weights / total
    state_mean, score_mean = share @ states, share @ scores
    centred, rest = states - state_mean, scores - score_mean
    gram, right = centred.mT @ (share[:, None] * centred), centred.mT @ (share * rest)
    if penalty == "ridge":
        coefficients = torch.linalg.lstsq(gram + alpha / total * torch.eye(len(gram)).double(), right).solution
    else:
        coefficients = _descend(gram, right, alpha)
    error = share @ (rest - centred @ coefficients).square()
    spread = share @ rest.square()
    fit = float(1.0 - error / spread) if spread > 0 else math.nan
    return Surrogate(coefficients, float(score_mean - state_mean @ coefficients), fit)


def _descend(gram: Tensor, right: Tensor, alpha: float) -> Tensor:
    """Minimise b'Gb/2 - b'r + alpha |b| by coordinate descent (Friedman et al., 2010, "covariance updates")."""
    coefficients = torch.zeros_like(right)
    diagonal = gram.diagonal()
    used = [index for index, value in enumerate(diagonal.tolist()) if value > 0]
    scale = right.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    for _ in range(_MAX_ROUNDS):
        before = coefficients.clone()
        for index in used:
            step = right[index] - gram[index] @ coefficients + diagonal[index] * coefficients[index]
            coefficients[index] = step.sign() * (step.abs() - alpha).clamp(min=0) / diagonal[index]
        if ((coefficients - before).abs() * diagonal).max() <= _CONVERGED * scale:
            break
    return coefficients


def fit_shapley(states: Tensor, weights: Tensor, scores: Tensor) -> Surrogate:
    """Fit what is exact for no segment and for all of them, and elsewhere has the least weighted squares.

    ``states`` (samples, segments) float64, none of the segments in the first sample and all of them in the last;
    ``weights`` and ``scores`` (samples,) float64.
    """
    empty, whole = scores[0], scores[-1]
    # The values sum to what all segments add, so that the last one is what the others leave.
    others, last = states[:, :-1], states[:, -1:]
    root = weights.sqrt()
    target = root * (scores - empty - last[:, 0] * (whole - empty))
    first = torch.linalg.lstsq(root[:, None] * (others - last), target[:, None], driver="gelsd").solution[:, 0]
    coefficients = torch.cat((first, (whole - empty - first.sum()).reshape(1)))
    share = weights / weights.sum() if weights.any() else torch.full_like(weights, 1.0 / len(weights))
    error = share @ (scores - empty - states @ coefficients).square()
    spread = share @ (scores - share @ scores).square()
    return Surrogate(coefficients, float(empty), float(1.0 - error / spread) if spread > 0 else math.nan)
