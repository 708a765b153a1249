"""Independent component analysis: recordings of as many microphones as sources, or more, unmixed without training data.

A recording is ``x(t) = A s(t)`` with an unknown mixing matrix A, one row per microphone, and sources that are
statistically independent and, all but one, not Gaussian. There is no delay in this model: it holds for close
microphones, for stereo mixes made by level, and for any other series that are weighted sums of the same factors
(electrodes, prices); not for microphones apart in a reverberant room.

What the recording cannot tell: the **order** of the sources, and their **scale** and sign, since a louder source under
a smaller weight sounds the same. Estimates are therefore given as they sound at a microphone (projection back:
``A[channel, k] s_k(t)``, in which scale and sign cancel), loudest first.

Sources: A. Hyvärinen, "Fast and robust fixed-point algorithms for independent component analysis", IEEE Transactions on
Neural Networks 10(3), 1999 (FastICA; contrasts in section II-D, algorithm in section V); A. Bell, T. Sejnowski, "An
information-maximization approach to blind separation and blind deconvolution", Neural Computation 7(6), 1995; S. Amari,
A. Cichocki, H. Yang, "A new learning algorithm for blind signal separation", NIPS 1995 (natural gradient); T.-W. Lee,
M. Girolami, T. Sejnowski, "Independent component analysis using an extended infomax algorithm for mixed sub-Gaussian
and super-Gaussian sources", Neural Computation 11(2), 1999 (section 2); N. Murata, S. Ikeda, A. Ziehe, "An approach to
blind source separation based on temporal structure of speech signals", Neurocomputing 41, 2001 (projection back).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import softplus

from auriscope.errors import AuriscopeError
from auriscope.nn.masks import choice, length_mask
from auriscope.nn.nmf import finite
from auriscope.separation.fitted import FittedSeparator, join_in_time

ALGORITHMS = ("parallel", "deflation", "infomax", "extended_infomax")
CONTRASTS = ("logcosh", "exp", "cube")

_TILE = 1 << 16
"""Values of a tile of time on a CPU: what an iteration does with them stays in its second cache."""


@dataclass(frozen=True)
class ICAConfig:
    """The configuration of ICA.

    ``num_channels`` microphones, at least ``num_sources``; more are reduced to their principal components first.
    ``algorithm`` is FastICA's ``"parallel"`` (all sources at once) or ``"deflation"`` (one after the other), with the
    ``contrast`` ``"logcosh"``, ``"exp"`` or ``"cube"``; or ``"infomax"`` (sources with longer tails than a Gaussian, as
    speech has) or ``"extended_infomax"`` (shorter tails too). FastICA ends when no row of the unmixing matrix turns by
    more than ``tolerance`` (one minus the size of the cosine), infomax when no entry of its gradient does.
    ``reference_channel`` is the microphone at which estimates are given; ``seed`` draws FastICA's initial matrix.
    """

    num_channels: int = 2
    num_sources: int = 2
    algorithm: str = "parallel"
    contrast: str = "logcosh"
    max_iterations: int = 200
    tolerance: float = 1e-4
    reference_channel: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        choice(self.algorithm, ALGORITHMS, "algorithm")
        choice(self.contrast, CONTRASTS, "contrast")
        if not 1 <= self.num_sources <= self.num_channels:
            raise ValueError(f"{self.num_channels} microphones cannot tell {self.num_sources} sources apart")
        if not 0 <= self.reference_channel < self.num_channels:
            raise ValueError(f"there is no reference_channel {self.reference_channel} of {self.num_channels}")
        if self.max_iterations < 1:
            raise ValueError("max_iterations must be at least 1")


@dataclass(frozen=True)
class Unmixing:
    """What was learnt of each recording of a batch.

    ``unmixing`` (batch, sources, channels) takes ``array - mean`` to sources of unit variance, ``mixing``
    (batch, channels, sources) takes them back, ``mean`` is (batch, channels); ``num_iterations`` and ``converged`` are
    (batch,). Sources are ordered by their energy at the reference channel.
    """

    mean: Tensor
    unmixing: Tensor
    mixing: Tensor
    num_iterations: Tensor
    converged: Tensor

    def sources(self, array: Tensor) -> Tensor:
        """Give the sources (batch, sources, time), of unit variance and unknown sign, of (batch, channels, time)."""
        return self.unmixing @ (array - self.mean.unsqueeze(-1))

    def estimates(self, array: Tensor, channel: int = 0) -> Tensor:
        """Give the sources (batch, sources, time) as they sound at one channel; their sum is what it recorded."""
        return (self.mixing[:, channel].unsqueeze(-1) * self.unmixing) @ (array - self.mean.unsqueeze(-1))

    def source_images(self, array: Tensor) -> Tensor:
        """Give what each source contributes to each channel, (batch, sources, channels, time)."""
        return torch.einsum("bnk,bkt->bknt", self.mixing, self.sources(array))


class ICA(FittedSeparator, name="separation/ica"):
    """Independent component analysis by FastICA or infomax: one mixing matrix, fitted to recordings that share it.

    Literature and what the model can and cannot do: see the module. Equal to scikit-learn's ``FastICA`` from the same
    initial matrix, iteration by iteration. For a batch of recordings that each have a mixing matrix of their own, use
    :func:`fit_unmixing`.

    >>> generator = torch.Generator().manual_seed(0)
    >>> sources = torch.rand(1, 2, 4000, generator=generator) - 0.5
    >>> array = torch.tensor([[1.0, 0.5], [0.4, 1.0]]) @ sources
    >>> estimates = ICA(ICAConfig(contrast="cube")).fit(array).separate(array)
    >>> torch.allclose(estimates.sum(1), array[:, 0] - array[:, 0].mean(), atol=1e-5)
    True
    """

    Config = ICAConfig
    mean: Tensor
    unmixing: Tensor
    mixing: Tensor

    def __init__(self, config: ICAConfig) -> None:
        super().__init__(config)
        self.register_buffer("mean", torch.zeros(config.num_channels))
        self.register_buffer("unmixing", torch.zeros(config.num_sources, config.num_channels))
        self.register_buffer("mixing", torch.zeros(config.num_channels, config.num_sources))

    def fit(self, *signals: Tensor, lengths: Tensor | None = None) -> Self:
        """Fit the mixing matrix to an array (batch, channels, time), all of whose recordings share it.

        ``lengths`` (batch,) are the valid samples. Raises ``AuriscopeError`` when the channels are not
        ``num_channels``, not finite, or not as many independent signals as there are sources to find.
        """
        (array,) = signals
        found = fit_unmixing(join_in_time(array, lengths).unsqueeze(0), self.config)
        for name in ("mean", "unmixing", "mixing"):
            getattr(self, name).copy_(getattr(found, name)[0])
        return self

    def forward(self, array: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate an array (batch, channels, time) into estimates (batch, sources, time) at the reference channel.

        What lies beyond ``lengths`` (batch,) comes out as zeros.
        """
        return _masked(self._stored().estimates(self._checked(array), self.config.reference_channel), lengths)

    def source_images(self, array: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Give what each source contributes to each microphone, (batch, sources, channels, time)."""
        return _masked(self._stored().source_images(self._checked(array)), lengths)

    def _stored(self) -> Unmixing:
        self._require_fit(self.unmixing)
        none = torch.zeros(1, dtype=torch.int64)
        return Unmixing(self.mean[None], self.unmixing[None], self.mixing[None], none, none == 0)

    def _checked(self, array: Tensor) -> Tensor:
        _check(array, self.config)
        return array


def _masked(signal: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return signal
    mask = length_mask(lengths, signal.shape[-1])
    return signal * mask.reshape(len(mask), *(1,) * (signal.dim() - 2), -1)


def _check(array: Tensor, config: ICAConfig) -> None:
    if array.dim() != 3 or array.shape[1] != config.num_channels:
        raise AuriscopeError(
            f"the array {tuple(array.shape)} is not (batch, channels, time) with {config.num_channels} channels"
        )


@torch.no_grad()
def fit_unmixing(
    array: Tensor, config: ICAConfig | None = None, lengths: Tensor | None = None, *, initial: Tensor | None = None
) -> Unmixing:
    """Fit every recording of a batch on its own.

    Shapes: ``array`` (batch, channels, time), ``lengths`` (batch,) valid samples, ``initial`` (sources, sources) the
    matrix from which the whitened recordings are unmixed first, by default drawn from the seed (FastICA) or the
    identity (infomax). Sums run in the array's precision, the small matrices in float64. Raises ``AuriscopeError`` for
    another number of channels, for values that are not finite, and for a recording whose channels hold fewer
    independent signals than there are sources to find (silence, or one channel copied).
    """
    config = config or ICAConfig()
    _check(array, config)
    finite(array if lengths is None else _masked(array, lengths), "the array")
    count = torch.full((len(array),), array.shape[-1]) if lengths is None else lengths
    count = count.to(array.device).clamp(min=1).double()
    mean, white, whitening, dewhitening = _whiten(_masked(array, lengths), count, lengths, config)
    if initial is None:
        initial = torch.eye(config.num_sources, dtype=torch.float64)
        if config.algorithm in ("parallel", "deflation"):
            generator = torch.Generator().manual_seed(config.seed)
            initial = torch.randn(initial.shape, generator=generator, dtype=torch.float64)
    start = initial.to(white.device, torch.float64).expand(len(white), -1, -1).clone()
    rotation, num_iterations, converged = _SOLVERS[config.algorithm](white, start, count, config)
    unmixing = rotation @ whitening
    # Infomax ends at the scale of its source densities; unit variance is the same for all.
    mixing = dewhitening @ torch.linalg.inv(rotation)
    scale = rotation.square().sum(-1, keepdim=True).sqrt()
    unmixing, mixing = unmixing / scale, mixing * scale.mT
    order = mixing[:, config.reference_channel].abs().argsort(dim=-1, descending=True, stable=True).unsqueeze(-1)
    unmixing = unmixing.take_along_dim(order, 1)
    mixing = mixing.take_along_dim(order.mT, 2)
    dtype = array.dtype
    return Unmixing(mean.to(dtype), unmixing.to(dtype), mixing.to(dtype), num_iterations, converged)


def _whiten(
    array: Tensor, count: Tensor, lengths: Tensor | None, config: ICAConfig
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give the mean (B, N), the white signals (B, K + 1, T), and the matrices to them (B, K, N) and back (B, N, K).

    The last white row is ones, so that sums over time fall out of products with it; padding is zero in the others.
    """
    mean = array.sum(-1, dtype=torch.float64) / count[:, None]
    centred = _masked(array - mean.to(array.dtype).unsqueeze(-1), lengths)
    wide = centred.double()
    covariance = wide @ wide.mT / count[:, None, None]
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = (tensor.flip(-1)[..., : config.num_sources] for tensor in (values, vectors))
    # A direction that is a rounding of float64 beside the loudest is no signal.
    missing = values[:, -1] <= 1e-13 * values[:, 0].clamp(min=1e-300)
    if missing.any():
        raise AuriscopeError(
            f"the {config.num_channels} channels do not hold {config.num_sources} independent signals: "
            "are they silent, or copies of each other?"
        )
    # Eigenvectors have no sign of their own; a fixed one makes results repeatable.
    vectors = vectors * torch.where(vectors[:, :1] < 0, -1.0, 1.0)
    whitening = vectors.mT / values.sqrt().unsqueeze(-1)
    white = torch.ones(len(array), config.num_sources + 1, array.shape[-1], dtype=array.dtype, device=array.device)
    white[:, :-1] = whitening.to(array.dtype) @ centred
    return mean, white, whitening, vectors * values.sqrt().unsqueeze(1)


def _tiles(white: Tensor, num_rows: int) -> list[Tensor]:
    """Cut the time of white signals so that ``num_rows`` of each recording fit into the cache."""
    if white.device.type != "cpu":
        return [white]
    return list(torch.split(white, max(2048, _TILE // (len(white) * num_rows)), dim=-1))


def _moments(weights: Tensor, white: Tensor, count: Tensor, contrast: str) -> tuple[Tensor, Tensor]:
    """Give E[g(y) x'] (B, R, K) and E[g'(y)] (B, R) of ``y = weights x``, with ``weights`` (B, R, K).

    g is the derivative of the contrast: tanh y for log cosh y, y exp(-y²/2) for -exp(-y²/2), y³ for y⁴ / 4
    (Hyvärinen 1999, equations 17 to 22).
    """
    # tanh y = 2 sigmoid(2 y) - 1, and torch computes the latter several times faster.
    small = (2 * weights if contrast == "logcosh" else weights).to(white.dtype)
    products = torch.zeros(*weights.shape[:2], white.shape[1], dtype=torch.float64, device=white.device)
    slopes = torch.zeros(weights.shape[:2], dtype=torch.float64, device=white.device)
    for tile in _tiles(white, weights.shape[1]):
        y = small @ tile[:, :-1]
        if contrast == "logcosh":
            y.sigmoid_()
            slopes -= 4 * torch.linalg.vector_norm(y, dim=-1).double().square()
        elif contrast == "exp":
            square = y.square()
            bell = square.mul(-0.5).exp_()
            y *= bell
            slopes += bell.sum(-1) - (bell * square).sum(-1)
        else:
            slopes += 3 * torch.linalg.vector_norm(y, dim=-1).double().square()
            y *= y.square()
        products += y @ tile.mT
    if contrast == "logcosh":
        # The white signals have no mean, so that of the constant in 2 sigmoid - 1 nothing is left in their products.
        slopes += 4 * products[..., -1]
        products *= 2
    if contrast != "cube":
        # In the padding y is 0, and the slope 1.
        slopes -= (white.shape[-1] - count).unsqueeze(-1)
    return products[..., :-1] / count[:, None, None], slopes / count[:, None]


def _decorrelated(weights: Tensor) -> Tensor:
    """Give the nearest orthogonal matrix, (W W')^(-1/2) W."""
    values, vectors = torch.linalg.eigh(weights @ weights.mT)
    decorrelated: Tensor = (vectors / values.clamp(min=1e-300).sqrt().unsqueeze(1)) @ vectors.mT @ weights
    return decorrelated


Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _until_converged(
    step: Step, weights: Tensor, white: Tensor, count: Tensor, config: ICAConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Iterate ``step(weights, white, count) -> (weights, change)`` on every recording until its change is small."""
    result = weights.clone()
    num_iterations = torch.full((len(weights),), config.max_iterations, device=white.device)
    converged = torch.zeros(len(weights), dtype=torch.bool, device=white.device)
    active = torch.arange(len(weights), device=white.device)
    for iteration in range(1, config.max_iterations + 1):
        weights, change = step(weights, white, count)
        result[active] = weights
        done = change < config.tolerance
        if done.any():
            converged[active[done]] = True
            num_iterations[active[done]] = iteration
            going = ~done
            if not going.any():
                break
            active, weights, white, count = active[going], weights[going], white[going], count[going]
    return result, num_iterations, converged


def _parallel(white: Tensor, start: Tensor, count: Tensor, config: ICAConfig) -> tuple[Tensor, Tensor, Tensor]:
    def step(weights: Tensor, white: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        products, slopes = _moments(weights, white, count, config.contrast)
        updated = _decorrelated(products - slopes.unsqueeze(-1) * weights)
        return updated, ((updated * weights).sum(-1).abs() - 1).abs().amax(-1)

    return _until_converged(step, _decorrelated(start), white, count, config)


def _deflation(white: Tensor, start: Tensor, count: Tensor, config: ICAConfig) -> tuple[Tensor, Tensor, Tensor]:
    found = start[:, :0]
    num_iterations = torch.zeros(len(start), dtype=torch.int64, device=white.device)
    converged = torch.ones(len(start), dtype=torch.bool, device=white.device)
    for row in range(config.num_sources):
        # What was found travels with the row it constrains, so that both shrink as recordings converge.
        def step(rows: Tensor, white: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
            weight, others = rows[:, :1], rows[:, 1:]
            products, slopes = _moments(weight, white, count, config.contrast)
            updated = products - slopes.unsqueeze(-1) * weight
            updated = updated - (updated @ others.mT) @ others
            updated = updated / updated.norm(dim=-1, keepdim=True)
            return torch.cat([updated, others], 1), ((updated * weight).sum((1, 2)).abs() - 1).abs()

        weight = start[:, row : row + 1]
        weight = weight / weight.norm(dim=-1, keepdim=True)
        rows, iterations, done = _until_converged(step, torch.cat([weight, found], 1), white, count, config)
        found = torch.cat([found, rows[:, :1]], 1)
        num_iterations = torch.maximum(num_iterations, iterations)
        converged &= done
    return found, num_iterations, converged


def _infomax(white: Tensor, start: Tensor, count: Tensor, config: ICAConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Ascend the likelihood by the natural gradient, with the longest steps under which it rises.

    The density of every source is the logistic one, or (extended) a Gaussian times or divided by cosh, whichever
    Lee et al.'s stability criterion asks for (equation 2.31), decided again in every iteration.
    """
    extended = config.algorithm == "extended_infomax"
    # The logistic density's score is tanh(u / 2).
    stretch = 1.0 if extended else 0.5
    eye = torch.eye(start.shape[1], dtype=torch.float64, device=white.device)

    def evaluate(weights: Tensor, white: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """E[tanh(c u) u'] (B, K, K), E[log cosh(c u)] (B, K) and the sign of each density (B, K), c the stretch."""
        products, slopes = _moments(stretch * weights, white, count, "logcosh")
        products = products @ weights.mT
        total = torch.zeros_like(slopes)
        for tile in _tiles(white, weights.shape[1]):
            total += softplus((2 * stretch * weights).to(white.dtype) @ tile[:, :-1]).sum(-1)
        # log cosh y = softplus(2 y) - y - log 2, which in the padding is 0, and E[y] = 0.
        padding = (white.shape[-1] - count).unsqueeze(-1)
        cosines = (total - padding * math.log(2)) / count[:, None] - math.log(2)
        signs = torch.ones_like(slopes)
        if extended:
            power = weights.square().sum(-1)
            signs = torch.where(slopes * power >= products.diagonal(dim1=1, dim2=2), 1.0, -1.0)
        return products, cosines, signs

    def loss(weights: Tensor, cosines: Tensor, signs: Tensor) -> Tensor:
        energy = weights.square().sum((1, 2)) / 2 if extended else 0.0
        total: Tensor = (signs * cosines).sum(-1) / stretch + energy - torch.linalg.slogdet(weights)[1]
        return total

    def gradient(weights: Tensor, products: Tensor, signs: Tensor) -> Tensor:
        score = signs.unsqueeze(-1) * products
        return eye - (score + weights @ weights.mT if extended else score)

    def pack(*parts: Tensor) -> Tensor:
        return torch.cat([part.reshape(len(part), -1) for part in parts], 1)

    size = start.shape[1]
    sizes = [size * size, size * size, size, size, 1]

    def step(state: Tensor, white: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        # One recording's state: its weights, what was evaluated at them, and the length of the next step.
        parts = torch.split(state, sizes, 1)
        weights, products = (part.reshape(-1, size, size) for part in parts[:2])
        cosines, signs, rate = parts[2:]
        trial = weights + rate.unsqueeze(-1) * (gradient(weights, products, signs) @ weights)
        new_products, new_cosines, new_signs = evaluate(trial, white, count)
        better = loss(trial, new_cosines, signs) <= loss(weights, cosines, signs) + 1e-9
        moved = pack(trial, new_products, new_cosines, new_signs, 1.3 * rate)
        state = torch.where(better.unsqueeze(-1), moved, pack(weights, products, cosines, signs, rate / 2))
        slope = gradient(trial, new_products, new_signs).abs().amax((1, 2))
        return state, torch.where(better, slope, torch.inf)

    rate = torch.full((len(start), 1), 0.5, dtype=torch.float64, device=white.device)
    state = pack(start, *evaluate(start, white, count), rate)
    state, num_iterations, converged = _until_converged(step, state, white, count, config)
    return state[:, : size * size].reshape(-1, size, size), num_iterations, converged


_SOLVERS = {"parallel": _parallel, "deflation": _deflation, "infomax": _infomax, "extended_infomax": _infomax}

__all__ = ["ALGORITHMS", "CONTRASTS", "ICA", "ICAConfig", "Unmixing", "fit_unmixing"]
