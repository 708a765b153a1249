"""Hidden Markov models whose states speak in mixtures of Gaussians: forward, backward, Viterbi, expectations.

Everything is in the logarithmic domain and batched; the only loops are over time. Models may be one for all
utterances, one for each, or several for each: what is called (…) below are leading dimensions that broadcast.

L. Rabiner, "A tutorial on hidden Markov models and selected applications in speech recognition", Proc. IEEE 77(2),
1989; the equations are its own. A model's ``start`` (…, states), ``transitions`` (…, states, states) and ``end``
(…, states) are logarithms, and may be -inf; ``end`` is the probability of stopping after a state, which Rabiner does
not have: with zeros an utterance may stop anywhere, for nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    alpha = emissions[..., 0, :] + start
    alphas = [alpha]
    for frame in range(1, emissions.shape[-2]):
        arrived = (alpha[..., None] + transitions).logsumexp(-2) + emissions[..., frame, :]
        alpha = torch.where((frame < frame_lengths)[..., None], arrived, alpha)
        alphas.append(alpha)
    return torch.stack(alphas, -2), (alpha + end).logsumexp(-1)


def backward_variables(emissions: Tensor, transitions: Tensor, end: Tensor, frame_lengths: Tensor) -> Tensor:
    """Compute the log-probabilities β of all that comes after each frame, given the state then: (…, frames, states).

    Arguments as of :func:`forward_variables`. Behind an utterance's end β is ``end``. Equations 24 and 25.
    """
    beta = end.expand(emissions.shape[:-2] + end.shape[-1:])
    betas = [beta]
    for frame in range(emissions.shape[-2] - 1, 0, -1):
        earlier = (transitions + (emissions[..., frame, :] + beta)[..., None, :]).logsumexp(-1)
        beta = torch.where((frame < frame_lengths)[..., None], earlier, beta)
        betas.append(beta)
    return torch.stack(betas[::-1], -2)


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
    arrived = emissions[..., 1:, :] + betas[..., 1:, :] - likelihood[..., None, None]
    each = alphas[..., :-1, :, None] + transitions[..., None, :, :] + arrived[..., None, :]
    return torch.where(valid, each, -torch.inf).exp().sum(-3)


def viterbi(
    emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, frame_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the likeliest states: arguments as of :func:`forward_variables`.

    Returns the states (…, frames) int64, behind the end the last one again, and the path's log-probability (…).
    Equations 32 to 35.
    """
    delta = emissions[..., 0, :] + start
    stay = torch.arange(emissions.shape[-1], device=emissions.device)
    origins = []
    for frame in range(1, emissions.shape[-2]):
        best, origin = (delta[..., None] + transitions).max(-2)
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
class Statistics:
    """What an E-step finds, per utterance of a batch.

    ``occupancies`` (batch, states, mixtures) are how many frames each component made, ``sums`` and ``squares``
    (batch, states, mixtures, dim) the sums over these of the features and their squares, ``starts`` (batch, states)
    which state came first, ``ends`` (batch, states) which last, ``transitions`` (batch, states, states) how often each
    followed which, and ``likelihood`` (batch,) is the log-likelihood.
    """

    occupancies: Tensor
    sums: Tensor
    squares: Tensor
    starts: Tensor
    ends: Tensor
    transitions: Tensor
    likelihood: Tensor


def expectations(
    features: Tensor,
    frame_lengths: Tensor,
    log_weights: Tensor,
    means: Tensor,
    variances: Tensor,
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
) -> Statistics:
    """The E-step of Baum and Welch: what each utterance says of its own model.

    Args:
        features: (batch, frames, dim).
        frame_lengths: (batch,) int64, at least 1.
        log_weights: (batch, states, mixtures).
        means: (batch, states, mixtures, dim).
        variances: (batch, states, mixtures, dim).
        start: (batch, states).
        transitions: (batch, states, states).
        end: (batch, states).

    Returns:
        The sums of which :func:`reestimated` makes parameters. Equations 53 and 54 need no more.
    """
    batch, states, mixtures, dim = means.shape
    flat = component_densities(features, means.reshape(batch, -1, dim), variances.reshape(batch, -1, dim))
    components = flat.view(batch, -1, states, mixtures) + log_weights[:, None]
    emissions = components.logsumexp(-1)
    # Sums over an utterance have thousands of nats, of which posteriors need the decimals.
    exact = emissions.double()
    alphas, likelihood = forward_variables(exact, start, transitions, end, frame_lengths)
    betas = backward_variables(exact, transitions, end, frame_lengths)
    posteriors = state_posteriors(alphas, betas, likelihood, frame_lengths)
    last = (frame_lengths - 1)[:, None, None].expand(-1, 1, states)
    shares = (components - emissions[..., None]).exp() * posteriors.to(features)[..., None]
    weights = shares.flatten(2).mT
    return Statistics(
        occupancies=shares.sum(1),
        sums=(weights @ features).view(means.shape),
        squares=(weights @ features.square()).view(means.shape),
        starts=posteriors[:, 0],
        ends=posteriors.gather(1, last)[:, 0],
        transitions=expected_transitions(alphas, betas, exact, transitions, likelihood, frame_lengths),
        likelihood=likelihood,
    )
