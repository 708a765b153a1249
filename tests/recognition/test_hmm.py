"""Hidden Markov models against hmmlearn on the same parameters, and in batches against each utterance alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hmmlearn import _hmmc
from hmmlearn.hmm import GMMHMM, GaussianHMM
from torch import Tensor

from auriscope.recognition.hmm import (
    GaussianHMMs,
    Statistics,
    backward_variables,
    component_densities,
    expectations,
    expected_transitions,
    forward_variables,
    reestimated,
    split,
    state_posteriors,
    viterbi,
)

STATES, MIXTURES, DIM = 4, 3, 5
LENGTHS = torch.tensor([30, 17, 9])


def _model(seed: int = 0, *, left_to_right: bool = False) -> GaussianHMMs:
    """One model, in float64, whose utterances may stop anywhere for nothing."""
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.ones(STATES), STATES)
    start = rng.dirichlet(np.ones(STATES))
    if left_to_right:
        transitions = np.triu(np.tril(transitions, 1))
        transitions /= transitions.sum(1, keepdims=True)
        start = np.eye(STATES)[0]
    arrays = (
        np.log(rng.dirichlet(np.full(MIXTURES, 3.0), STATES)),
        rng.normal(size=(STATES, MIXTURES, DIM)),
        rng.uniform(0.3, 2.0, (STATES, MIXTURES, DIM)),
    )
    with np.errstate(divide="ignore"):
        chain = np.log(start), np.log(transitions), np.zeros(STATES)
    return GaussianHMMs(*(torch.from_numpy(array)[None] for array in (*arrays, *chain)))


def _theirs(model: GaussianHMMs) -> GMMHMM:
    theirs = GMMHMM(STATES, MIXTURES, covariance_type="diag", n_iter=1, init_params="", implementation="log")
    theirs.n_features = DIM
    theirs.startprob_ = model.start[0].exp().numpy()
    theirs.transmat_ = model.transitions[0].exp().numpy()
    theirs.weights_ = model.log_weights[0].exp().numpy()
    theirs.means_ = model.means[0].numpy()
    theirs.covars_ = model.variances[0].numpy()
    return theirs


@pytest.fixture(params=[False, True], ids=["ergodic", "left to right"])
def model(request: pytest.FixtureRequest) -> GaussianHMMs:
    return _model(left_to_right=request.param)


@pytest.fixture
def features() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(len(LENGTHS), int(LENGTHS.max()), DIM, generator=generator, dtype=torch.float64)


def _emissions(model: GaussianHMMs, features: Tensor) -> Tensor:
    return model.select(torch.zeros(len(features), dtype=torch.int64)).component_log_densities(features).logsumexp(-1)


def _lattice(model: GaussianHMMs, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    emissions = _emissions(model, features)
    alphas, likelihood = forward_variables(emissions, model.start, model.transitions, model.end, LENGTHS)
    betas = backward_variables(emissions, model.transitions, model.end, LENGTHS)
    return emissions, alphas, betas, likelihood


def test_forward_backward_and_posteriors_equal_hmmlearn(model, features):
    theirs = _theirs(model)
    emissions, alphas, betas, likelihood = _lattice(model, features)
    posteriors = state_posteriors(alphas, betas, likelihood, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        observed = features[row, :length].numpy()
        framed = theirs._compute_log_likelihood(observed)
        np.testing.assert_allclose(emissions[row, :length], framed, atol=1e-9)
        chain = theirs.startprob_, theirs.transmat_, framed
        total, lattice = _hmmc.forward_log(*chain)
        np.testing.assert_allclose(alphas[row, :length], lattice, atol=1e-9)
        np.testing.assert_allclose(likelihood[row], total, atol=1e-9)
        np.testing.assert_allclose(betas[row, :length], _hmmc.backward_log(*chain), atol=1e-9)
        np.testing.assert_allclose(posteriors[row, :length], theirs.predict_proba(observed), atol=1e-9)
        assert not posteriors[row, length:].any()


def test_viterbi_equals_hmmlearn(model, features):
    path, score = viterbi(_emissions(model, features), model.start, model.transitions, model.end, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        expected_score, expected = _theirs(model).decode(features[row, :length].numpy(), algorithm="viterbi")
        assert path[row, :length].tolist() == expected.tolist()
        assert path[row, length:].unique().tolist() in ([], [expected[-1]])
        assert float(score[row]) == pytest.approx(expected_score, abs=1e-9)


def test_one_step_of_em_equals_hmmlearn(model, features):
    theirs = _theirs(model)
    observed = torch.cat([features[row, :length] for row, length in enumerate(LENGTHS.tolist())]).numpy()
    theirs.fit(observed, LENGTHS.tolist())
    labels = torch.zeros(len(LENGTHS), dtype=torch.int64)
    found = expectations(features, LENGTHS, model.select(labels)).per_model(labels, 1)
    new = reestimated(model, found, floor=torch.zeros(DIM), min_occupancy=0.0, stops=False)
    assert float(found.likelihood) == pytest.approx(theirs.monitor_.history[0], abs=1e-8)
    np.testing.assert_allclose(new.start[0].exp(), theirs.startprob_, atol=1e-9)
    np.testing.assert_allclose(new.transitions[0].exp(), theirs.transmat_, atol=1e-9)
    np.testing.assert_allclose(new.log_weights[0].exp(), theirs.weights_, atol=1e-6)
    np.testing.assert_allclose(new.means[0], theirs.means_, atol=1e-7)
    # hmmlearn's mixtures take the variance around the means before the step, ours around those after it.
    around_old = new.variances + (new.means - model.means).square()
    np.testing.assert_allclose(around_old[0], theirs.covars_, atol=1e-7)


def test_variances_of_single_gaussians_equal_hmmlearn(features):
    many = _model(3)
    model = GaussianHMMs(
        torch.zeros_like(many.log_weights[..., :1]), many.means[..., :1, :], many.variances[..., :1, :], many.start,
        many.transitions, many.end,
    )  # fmt: skip
    theirs = GaussianHMM(
        STATES, "diag", n_iter=1, init_params="", implementation="log", min_covar=0.0, covars_prior=0, covars_weight=1
    )
    theirs.n_features = DIM
    theirs.startprob_, theirs.transmat_ = model.start[0].exp().numpy(), model.transitions[0].exp().numpy()
    theirs.means_, theirs.covars_ = model.means[0, :, 0].numpy(), model.variances[0, :, 0].numpy()
    observed = torch.cat([features[row, :length] for row, length in enumerate(LENGTHS.tolist())]).numpy()
    theirs.fit(observed, LENGTHS.tolist())
    labels = torch.zeros(len(LENGTHS), dtype=torch.int64)
    found = expectations(features, LENGTHS, model.select(labels)).per_model(labels, 1)
    new = reestimated(model, found, floor=torch.zeros(DIM), min_occupancy=0.0, stops=False)
    np.testing.assert_allclose(new.means[0, :, 0], theirs.means_, atol=1e-8)
    np.testing.assert_allclose(new.variances[0, :, 0], np.diagonal(theirs.covars_, axis1=1, axis2=2), atol=1e-8)


def test_everything_equals_all_paths_counted_out():
    """Five frames, with ends that cost something: what hmmlearn has not."""
    model = _model(4, left_to_right=True)
    model.end[...] = torch.tensor([0.0, 0.1, 0.2, 0.7], dtype=torch.float64).log()
    features = torch.randn(1, 5, DIM, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    lengths = torch.tensor([5])
    emissions = _emissions(model, features)
    start, transitions, end = model.start[0], model.transitions[0], model.end[0]
    paths = {}
    for path in itertools.product(range(STATES), repeat=5):
        score = start[path[0]] + end[path[-1]] + sum(emissions[0, frame, state] for frame, state in enumerate(path))
        paths[path] = float(score + sum(transitions[a, b] for a, b in itertools.pairwise(path)))
    total = math.log(sum(math.exp(score) for score in paths.values()))
    alphas, likelihood = forward_variables(emissions, model.start, model.transitions, model.end, lengths)
    betas = backward_variables(emissions, model.transitions, model.end, lengths)
    assert float(likelihood) == pytest.approx(total)
    best, score = viterbi(emissions, model.start, model.transitions, model.end, lengths)
    assert tuple(best[0].tolist()) == max(paths, key=lambda path: paths[path])
    assert float(score) == pytest.approx(max(paths.values()))
    posteriors = state_posteriors(alphas, betas, likelihood, lengths)
    crossings = expected_transitions(alphas, betas, emissions, model.transitions, likelihood, lengths)
    for state in range(STATES):
        for frame in range(5):
            share = sum(math.exp(score - total) for path, score in paths.items() if path[frame] == state)
            assert float(posteriors[0, frame, state]) == pytest.approx(share, abs=1e-9)
        for other in range(STATES):
            times = sum(
                math.exp(score - total) * list(itertools.pairwise(path)).count((state, other))
                for path, score in paths.items()
            )
            assert float(crossings[0, state, other]) == pytest.approx(times, abs=1e-9)


@pytest.mark.parametrize("filling", [0.0, 1e3])
def test_a_batch_gives_what_each_utterance_alone_gives(features, filling):
    model = _model(6)
    model.end[...] = torch.rand(STATES, generator=torch.Generator().manual_seed(7), dtype=torch.float64).log()
    padded = features.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        padded[row, length:] = filling
    together = expectations(padded, LENGTHS, model.select(torch.zeros(3, dtype=torch.int64)))
    for row, length in enumerate(LENGTHS.tolist()):
        alone = expectations(features[row : row + 1, :length], LENGTHS[row : row + 1], model)
        for name in Statistics.__dataclass_fields__:
            torch.testing.assert_close(getattr(together, name)[row], getattr(alone, name)[0], rtol=1e-9, atol=1e-9)


def test_likelihoods_of_all_models_are_those_of_each(features):
    models = GaussianHMMs(
        *(torch.cat([getattr(_model(seed), name) for seed in (8, 9)]) for name in GaussianHMMs.__dataclass_fields__)
    )
    emissions = models.emissions_of_all(features)
    assert emissions.shape == (3, 2, 30, STATES)
    both = forward_variables(emissions, models.start, models.transitions, models.end, LENGTHS[:, None])[1]
    for number in range(2):
        own = models.select(torch.full((3,), number))
        found = expectations(features, LENGTHS, own).likelihood
        torch.testing.assert_close(both[:, number], found)


def test_em_never_makes_the_utterances_less_likely(features):
    labels = torch.zeros(len(LENGTHS), dtype=torch.int64)
    model = _model(10, left_to_right=True)
    model.end[0, -1] = math.log(0.5)
    model.end[0, :-1] = -math.inf
    found = []
    for _ in range(8):
        statistics = expectations(features, LENGTHS, model.select(labels)).per_model(labels, 1)
        found.append(float(statistics.likelihood))
        model = reestimated(model, statistics, floor=torch.full((DIM,), 1e-3))
        leaving = model.transitions.exp().sum(-1) + model.end.exp()
        torch.testing.assert_close(leaving, torch.ones_like(leaving))
    assert found == sorted(found)
    assert found[-1] > found[0] + 20


def test_variances_have_a_floor_and_rare_components_stay():
    model = _model(11)
    same = torch.full((1, 12, DIM), 0.3, dtype=torch.float64)
    statistics = expectations(same, torch.tensor([12]), model)
    new = reestimated(model, statistics, floor=torch.full((DIM,), 0.05), min_occupancy=1.0)
    common = statistics.occupancies >= 1.0
    assert common.any()
    assert not common.all()
    torch.testing.assert_close(new.variances[common], torch.full_like(new.variances[common], 0.05))
    torch.testing.assert_close(new.means[common], torch.full_like(new.means[common], 0.3))
    assert torch.equal(new.means[~common], model.means[~common])
    assert torch.equal(new.variances[~common], model.variances[~common])


def test_an_impossible_utterance_says_nothing():
    model = _model(12, left_to_right=True)
    model.end[0, :-1] = -math.inf
    statistics = expectations(torch.zeros(1, 2, DIM, dtype=torch.float64), torch.tensor([2]), model)
    assert statistics.likelihood.tolist() == [-math.inf]
    for name in ("occupancies", "sums", "squares", "starts", "ends", "transitions"):
        assert not getattr(statistics, name).any()


@pytest.mark.parametrize("number", [4, 6, 9])
def test_splitting_keeps_weights_and_means(number):
    model = _model(13)
    more = split(model, number)
    assert more.means.shape[-2] == min(number, 2 * MIXTURES)
    torch.testing.assert_close(more.log_weights.logsumexp(-1), model.log_weights.logsumexp(-1))
    middle = (more.means * more.log_weights.exp()[..., None]).sum(-2)
    torch.testing.assert_close(middle, (model.means * model.log_weights.exp()[..., None]).sum(-2))


def test_densities_equal_torch():
    generator = torch.Generator().manual_seed(14)
    features = torch.randn(2, 6, DIM, generator=generator)
    means, variances = torch.randn(7, DIM, generator=generator), 0.1 + torch.rand(7, DIM, generator=generator)
    expected = torch.distributions.Normal(means, variances.sqrt()).log_prob(features[:, :, None]).sum(-1)
    torch.testing.assert_close(component_densities(features, means, variances), expected, rtol=1e-4, atol=1e-4)
