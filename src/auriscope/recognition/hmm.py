"""Hidden Markov models whose states speak in mixtures of Gaussians: forward, backward, Viterbi, expectations.

Everything is in the logarithmic domain and batched; the only loops are over time. Models may be one for all
utterances, one for each, or several for each: what is called (…) below are leading dimensions that broadcast.

L. Rabiner, "A tutorial on hidden Markov models and selected applications in speech recognition", Proc. IEEE 77(2),
1989; the equations are its own. A model's ``start`` (…, states), ``transitions`` (…, states, states) and ``end``
(…, states) are logarithms, and may be -inf; ``end`` is the probability of stopping after a state, which Rabiner does
not have: with zeros an utterance may stop anywhere, for nothing.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


def component_densities(features: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Compute the log-densities of Gaussians with diagonal covariances.

    Shapes: ``features`` (batch, frames, dim), ``means`` and ``variances`` (components, dim) for all utterances, or
    (batch, components, dim). Returns (batch, frames, components), in nats.
    """
    precision = variances.reciprocal()
    constant = (means.square() * precision + variances.log()).sum(-1) + means.shape[-1] * math.log(2.0 * math.pi)
    # The square written out, so that two products of matrices do all the work.
    squares = features.square() @ precision.mT - 2.0 * (features @ (means * precision).mT)
    return -0.5 * (squares + constant[..., None, :])


def forward_variables(
    emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, frame_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the log-probabilities α of having seen what there is up to each frame and being in each state then.

    Args:
        emissions: (…, frames, states), log-densities of each frame in each state.
        start: (…, states).
        transitions: (…, states, states), from, to.
        end: (…, states).
        frame_lengths: (…) int64, at least 1; behind it α stays as it is.

    Returns:
        α (…, frames, states), and the utterances' log-likelihoods (…). Equations 19 to 21.
    """
    origins, steps = _possible(transitions)
    alpha = emissions[..., 0, :] + start
    alphas = [alpha]
    for frame in range(1, emissions.shape[-2]):
        arrived = (alpha[..., origins] + steps).logsumexp(-2) + emissions[..., frame, :]
        alpha = torch.where((frame < frame_lengths)[..., None], arrived, alpha)
        alphas.append(alpha)
    return torch.stack(alphas, -2), (alpha + end).logsumexp(-1)


def backward_variables(emissions: Tensor, transitions: Tensor, end: Tensor, frame_lengths: Tensor) -> Tensor:
    """Compute the log-probabilities β of all that comes after each frame, given the state then: (…, frames, states).

    Arguments as of :func:`forward_variables`. Behind an utterance's end β is ``end``. Equations 24 and 25.
    """
    targets, steps = _possible(transitions.mT)
    beta = end.expand(emissions.shape[:-2] + end.shape[-1:])
    betas = [beta]
    for frame in range(emissions.shape[-2] - 1, 0, -1):
        earlier = ((emissions[..., frame, :] + beta)[..., targets] + steps).logsumexp(-2)
        beta = torch.where((frame < frame_lengths)[..., None], earlier, beta)
        betas.append(beta)
    return torch.stack(betas[::-1], -2)


def _possible(transitions: Tensor) -> tuple[Tensor, Tensor]:
    """Give the states from which each state can be reached, and how likely each step is: most models have few.

    ``transitions`` (…, states, states), from, to, give the origins (number, states) that any of the models has, and
    the logarithms (…, number, states), -inf where a state has fewer or a model has not.
    """
    states = transitions.shape[-1]
    possible = transitions.reshape(-1, states, states).isfinite().any(0)
    number = max(1, int(possible.sum(0).max()))
    # Sorted stably by being possible, so that the likeliest is the lowest state where two are as likely.
    origins = possible.int().argsort(dim=0, descending=True, stable=True)[:number]
    return origins, transitions.gather(-2, origins.expand(*transitions.shape[:-2], -1, -1))


def state_posteriors(alphas: Tensor, betas: Tensor, likelihood: Tensor, frame_lengths: Tensor) -> Tensor:
    """Compute how likely each state is at each frame, (…, frames, states), zeros behind the end: equation 27."""
    frames = torch.arange(alphas.shape[-2], device=alphas.device)
    valid = (frames < frame_lengths[..., None])[..., None]
    return torch.where(valid, alphas + betas - likelihood[..., None, None], -torch.inf).exp()


def expected_transitions(
    alphas: Tensor, betas: Tensor, emissions: Tensor, transitions: Tensor, likelihood: Tensor, frame_lengths: Tensor
) -> Tensor:
    """Compute how often each utterance went from one state to another, (…, states, states): equations 37 and 38."""
    frames = torch.arange(1, alphas.shape[-2], device=alphas.device)
    valid = (frames < frame_lengths[..., None])[..., None, None]
    origins, steps = _possible(transitions)
    arrived = emissions[..., 1:, :] + betas[..., 1:, :] - likelihood[..., None, None]
    each = alphas[..., :-1, :][..., origins] + steps[..., None, :, :] + arrived[..., None, :]
    counts = torch.where(valid, each, -torch.inf).exp().sum(-3)
    dense = counts.new_zeros(counts.shape[:-2] + transitions.shape[-2:])
    return dense.scatter_(-2, origins.expand_as(counts), counts)


def viterbi(
    emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, frame_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the likeliest states: arguments as of :func:`forward_variables`.

    Returns the states (…, frames) int64, behind the end the last one again, and the path's log-probability (…).
    Equations 32 to 35.
    """
    sources, steps = _possible(transitions)
    delta = emissions[..., 0, :] + start
    stay = torch.arange(emissions.shape[-1], device=emissions.device)
    origins = []
    for frame in range(1, emissions.shape[-2]):
        best, rank = (delta[..., sources] + steps).max(-2)
        origin = sources.expand(*rank.shape[:-1], -1, -1).gather(-2, rank[..., None, :])[..., 0, :]
        inside = (frame < frame_lengths)[..., None]
        delta = torch.where(inside, best + emissions[..., frame, :], delta)
        origins.append(torch.where(inside, origin, stay))
    score, state = (delta + end).max(-1)
    path = [state]
    for origin in reversed(origins):
        state = origin.gather(-1, state[..., None])[..., 0]
        path.append(state)
    return torch.stack(path[::-1], -1), score


@dataclass(frozen=True)
class GaussianHMMs:
    """The parameters of one or more models of as many states and components.

    ``log_weights`` (…, states, mixtures), ``means`` and ``variances`` (…, states, mixtures, dim), ``start``
    (…, states), ``transitions`` (…, states, states) and ``end`` (…, states), where … is the number of models.
    """

    log_weights: Tensor
    means: Tensor
    variances: Tensor
    start: Tensor
    transitions: Tensor
    end: Tensor

    def select(self, numbers: Tensor) -> Self:
        """The models of these numbers, (n,) int64."""
        return type(self)(*(tensor[numbers] for tensor in _tensors(self)))

    def component_log_densities(self, features: Tensor) -> Tensor:
        """Weighted log-densities (batch, frames, states, mixtures) of features under the utterances' own models."""
        batch, states, mixtures, dim = self.means.shape
        flat = component_densities(features, self.means.reshape(batch, -1, dim), self.variances.reshape(batch, -1, dim))
        return flat.view(batch, -1, states, mixtures) + self.log_weights[:, None]

    def emissions_of_all(self, features: Tensor) -> Tensor:
        """Log-densities (batch, models, frames, states) of features (batch, frames, dim) under every model."""
        models, states, mixtures, dim = self.means.shape
        flat = component_densities(features, self.means.reshape(-1, dim), self.variances.reshape(-1, dim))
        components = flat.view(*features.shape[:2], models, states, mixtures) + self.log_weights
        return components.logsumexp(-1).transpose(1, 2)


@dataclass(frozen=True)
class Statistics:
    """What an E-step finds, per utterance or, summed up, per model.

    ``occupancies`` (…, states, mixtures) are how many frames each component made, ``sums`` and ``squares``
    (…, states, mixtures, dim) the sums over these of the features and their squares, ``starts`` (…, states) which
    state came first, ``ends`` (…, states) which last, ``transitions`` (…, states, states) how often each followed
    which, and ``likelihood`` (…) is the log-likelihood.
    """

    occupancies: Tensor
    sums: Tensor
    squares: Tensor
    starts: Tensor
    ends: Tensor
    transitions: Tensor
    likelihood: Tensor

    def per_model(self, labels: Tensor, num_models: int) -> Self:
        """Sum up what utterances say of the model that ``labels`` (batch,) names."""
        return type(self)(
            *(each.new_zeros(num_models, *each.shape[1:]).index_add_(0, labels, each) for each in _tensors(self))
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(*(a + b for a, b in zip(_tensors(self), _tensors(other), strict=True)))


def _tensors(record: GaussianHMMs | Statistics) -> list[Tensor]:
    return [getattr(record, field.name) for field in dataclasses.fields(record)]


def expectations(features: Tensor, frame_lengths: Tensor, models: GaussianHMMs) -> Statistics:
    """The E-step of Baum and Welch: what each utterance says of its own model.

    Shapes: ``features`` (batch, frames, dim), ``frame_lengths`` (batch,), at least 1, and as many models as utterances.
    The sums are what :func:`reestimated` makes parameters of. An utterance that its model cannot make says nothing;
    its likelihood is -inf.
    """
    components = models.component_log_densities(features)
    emissions = components.logsumexp(-1)
    # Sums over an utterance have thousands of nats, of which posteriors need the decimals.
    exact, start, transitions, end = (
        tensor.double() for tensor in (emissions, models.start, models.transitions, models.end)
    )
    alphas, likelihood = forward_variables(exact, start, transitions, end, frame_lengths)
    betas = backward_variables(exact, transitions, end, frame_lengths)
    possible = torch.where(likelihood.isinf(), torch.inf, likelihood)
    posteriors = state_posteriors(alphas, betas, possible, frame_lengths)
    last = (frame_lengths - 1)[:, None, None].expand(-1, 1, end.shape[-1])
    shares = (components - emissions[..., None]).exp() * posteriors.to(features)[..., None]
    weights = shares.flatten(2).mT
    return Statistics(
        occupancies=shares.sum(1),
        sums=(weights @ features).view(models.means.shape),
        squares=(weights @ features.square()).view(models.means.shape),
        starts=posteriors[:, 0],
        ends=posteriors.gather(1, last)[:, 0],
        transitions=expected_transitions(alphas, betas, exact, transitions, possible, frame_lengths),
        likelihood=likelihood,
    )


def reestimated(
    models: GaussianHMMs, found: Statistics, *, floor: Tensor, min_occupancy: float = 3.0, stops: bool = True
) -> GaussianHMMs:
    """The M-step of Baum and Welch: the parameters that make the utterances likeliest, given who made what.

    ``found`` are the sums per model, ``floor`` (dim,) is the least variance. Of components that made fewer frames
    than ``min_occupancy``, mean and variance stay as they were. The probability of stopping is estimated as that of
    going to a further state; without ``stops`` it stays as it is, and takes nothing from the others. Equations 40a to
    40c and 52 to 54.
    """
    occupancies = found.occupancies.clamp_min(1e-8)
    counts = occupancies[..., None]
    means = found.sums / counts
    variances = torch.maximum(found.squares / counts - means.square(), floor)
    rare = counts < min_occupancy
    left = found.transitions.sum(-1) + (found.ends if stops else 0.0)
    unseen = left < 1e-8
    return GaussianHMMs(
        log_weights=(occupancies / occupancies.sum(-1, keepdim=True)).log(),
        means=torch.where(rare, models.means, means),
        variances=torch.where(rare, models.variances, variances),
        start=(found.starts / found.starts.sum(-1, keepdim=True)).log().to(models.start),
        transitions=torch.where(
            unseen[..., None], models.transitions, (found.transitions / left[..., None]).log().to(models.transitions)
        ),
        end=torch.where(unseen, models.end, (found.ends / left).log().to(models.end)) if stops else models.end,
    )


def split(models: GaussianHMMs, num_mixtures: int) -> GaussianHMMs:
    """Make more components of few: the heaviest of each state become two, 0.2 standard deviations to either side.

    Gives at most twice as many as there were. S. Young et al., The HTK Book, section 10.6.
    """
    more = min(num_mixtures - models.means.shape[-2], models.means.shape[-2])
    heaviest = models.log_weights.topk(more, -1).indices
    index = heaviest[..., None].expand(*heaviest.shape, models.means.shape[-1])
    spread = 0.2 * models.variances.gather(-2, index).sqrt()
    halved = models.log_weights.gather(-1, heaviest) - math.log(2.0)
    middle = models.means.gather(-2, index)
    return dataclasses.replace(
        models,
        log_weights=torch.cat((models.log_weights.scatter(-1, heaviest, halved), halved), -1),
        means=torch.cat((models.means.scatter(-2, index, middle - spread), middle + spread), -2),
        variances=torch.cat((models.variances, models.variances.gather(-2, index)), -2),
    )
