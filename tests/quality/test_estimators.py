from __future__ import annotations

import pytest
import torch

from auriscope.errors import AuriscopeError
from auriscope.quality import RealMConfig, RealMEstimator, SiSnrConfig, SiSnrEstimator

ESTIMATORS = {
    "ours": (SiSnrEstimator, {}),
    "with voices": (SiSnrEstimator, {"voices": "speaker/ecapa.mini"}),
    "realm": (RealMEstimator, {}),
}


@pytest.fixture(params=sorted(ESTIMATORS))
def estimator(request):
    torch.manual_seed(1)
    cls, changes = ESTIMATORS[request.param]
    model = cls(cls.Config(**cls.Tiny, **changes))
    if changes:
        # As it begins, it hears no voices.
        torch.nn.init.normal_(model.company.weight)
    # Freshly drawn, the outputs hardly depend on the input, and most of what follows would hold for a constant.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                parameter.mul_(1.5)
    return model.eval()


def test_scores_depend_on_the_input(estimator, signals):
    scores = estimator(signals.mixture, signals.estimates)
    assert scores.shape == (3, 2)
    assert scores.std() > 1e-3


def test_a_padded_batch_gives_what_its_examples_give_alone(estimator, signals):
    together = estimator(signals.mixture, signals.estimates, signals.lengths)
    for row, length in enumerate(signals.lengths.tolist()):
        alone = estimator(signals.mixture[row : row + 1, :length], signals.estimates[row : row + 1, :, :length])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=1e-5)


def test_samples_beyond_the_lengths_are_ignored(estimator, signals):
    clean = estimator(signals.mixture, signals.estimates, signals.lengths)
    for row, length in enumerate(signals.lengths.tolist()):
        signals.mixture[row, length:] = 7.0
        signals.estimates[row, :, length:] = -3.0
    torch.testing.assert_close(estimator(signals.mixture, signals.estimates, signals.lengths), clean)


def test_gains_of_mixture_and_tracks_do_not_matter(estimator, signals):
    gains = torch.tensor([[0.01], [30.0]])
    plain = estimator(signals.mixture, signals.estimates)
    torch.testing.assert_close(
        estimator(1e-3 * signals.mixture, gains * signals.estimates), plain, atol=1e-3, rtol=1e-3
    )


def test_the_sign_of_a_track_does_not_matter(signals):
    torch.manual_seed(0)
    model = SiSnrEstimator(SiSnrConfig(**SiSnrEstimator.Tiny)).eval()
    flipped = signals.estimates * torch.tensor([[-1.0], [1.0]])
    torch.testing.assert_close(model(signals.mixture, flipped), model(signals.mixture, signals.estimates))


def test_permuting_the_tracks_permutes_the_scores(estimator, signals):
    scores = estimator(signals.mixture, signals.estimates)
    permuted = estimator(signals.mixture, signals.estimates.flip(1))
    torch.testing.assert_close(permuted, scores.flip(1), atol=1e-4, rtol=1e-4)


def test_there_is_no_noise_in_either_mode(estimator, signals):
    for mode in (True, False):
        estimator.train(mode)
        first = estimator(signals.mixture, signals.estimates)
        assert torch.equal(first, estimator(signals.mixture, signals.estimates))


@pytest.mark.parametrize("num_frames", [1, 10, 64, 65, 700])
@pytest.mark.parametrize("gain", [0.0, 1e-9, 1.0])
def test_short_and_silent_input_gives_finite_scores_and_gradients(estimator, num_frames, gain):
    generator = torch.Generator().manual_seed(0)
    mixture = gain * torch.randn(1, num_frames, generator=generator)
    scores = estimator(mixture, mixture[:, None].repeat(1, 2, 1))
    assert scores.isfinite().all()
    scores.sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in estimator.parameters())


@pytest.mark.parametrize("num_sources", [1, 2, 3])
def test_any_number_of_tracks_can_be_judged(estimator, num_sources):
    generator = torch.Generator().manual_seed(0)
    estimates = torch.randn(2, num_sources, 4000, generator=generator)
    prediction = estimator.predict(estimates.sum(1), estimates)
    assert prediction.score_db.shape == prediction.expected_error_db.shape == prediction.in_range.shape
    assert prediction.score_db.shape == (2, num_sources)
    assert (prediction.expected_error_db > 0).all()


def test_saving_keeps_scores_and_calibration(estimator, signals, tmp_path):
    from auriscope.pretrained import load

    estimator.calibration.error_factor.fill_(1.5)
    estimator.save_pretrained(tmp_path / "model")
    loaded = load(tmp_path / "model")
    before = estimator.predict(signals.mixture, signals.estimates)
    after = loaded.predict(signals.mixture, signals.estimates)
    assert torch.equal(before.score_db, after.score_db)
    assert torch.equal(before.expected_error_db, after.expected_error_db)


@pytest.fixture
def told():
    """Estimators of the same weights, the second of which compares voices, and began without doing so."""
    torch.manual_seed(0)
    deaf = SiSnrEstimator(SiSnrConfig(**SiSnrEstimator.Tiny)).eval()
    hearing = SiSnrEstimator(SiSnrConfig(**SiSnrEstimator.Tiny, voices="speaker/ecapa.mini")).eval()
    missing = hearing.load_state_dict(deaf.state_dict(), strict=False).missing_keys
    assert missing == ["company.weight"]
    return deaf, hearing


def test_with_voices_it_goes_on_from_where_it_was_without(told, signals):
    deaf, hearing = told
    assert torch.equal(hearing(signals.mixture, signals.estimates), deaf(signals.mixture, signals.estimates))
    assert not any(name.startswith("voices") for name in hearing.state_dict())


def company_of(model, mixture, estimates, lengths=None):
    lengths = torch.full((len(mixture),), mixture.shape[-1]) if lengths is None else lengths
    return model._features(mixture, estimates, lengths)[3]


def unit_power(signals):
    centred = signals - signals.mean(-1, keepdim=True)
    return centred / centred.square().mean(-1, keepdim=True).sqrt()


def test_how_alike_voices_are_is_what_the_speaker_model_says(told):
    from auriscope.pretrained import load

    generator = torch.Generator().manual_seed(0)
    # Coloured noises are voices enough: what is alike, and what changes half way, is known.
    low, high = (torch.randn(32_000, generator=generator).cumsum(0), torch.randn(32_000, generator=generator))
    low, high = unit_power(low), unit_power(high)
    changing = torch.cat([low[:16_000], high[16_000:]])
    estimates = unit_power(torch.stack([torch.stack([low, high]), torch.stack([low, changing])]))
    mixture = unit_power(estimates.sum(1))
    found = company_of(told[1], 0.1 * mixture, -30.0 * estimates)
    assert found.shape == (2, 2, 8)
    model = load("speaker/ecapa.mini").requires_grad_(False)
    halves = [[model.embed(half[None])[0] for half in track.chunk(2)] for track in estimates[1]]
    tracks = [torch.nn.functional.normalize(first + second, dim=0) for first, second in halves]
    whole = model.embed(mixture[1:])[0]
    steady = [first @ second for first, second in halves]
    expected = [
        [tracks[0] @ whole, tracks[1] @ whole, tracks[0] @ tracks[1], steady[0], steady[1]],
        [tracks[1] @ whole, tracks[0] @ whole, tracks[0] @ tracks[1], steady[1], steady[0]],
    ]
    torch.testing.assert_close(found[1, :, 3:], torch.tensor(expected), atol=1e-3, rtol=0)
    assert found[0, :, 6].min() > found[1, 1, 6] + 0.1, "one track changes its voice half way"
    assert found[1, 0, 5] > found[0, 0, 5] + 0.05, "the tracks are more alike"
    # White noise and what is nearly all below 100 Hz share little of their spectra.
    assert found[0, 0, 0] < found[1, 0, 0] < 1


@pytest.mark.parametrize(
    ("voices", "sample_rate", "says"),
    [
        ("speaker/ecapa.mini", 8_000, "works at 16000 Hz and the estimator at 8000 Hz"),
        ("classification/cnn.digits", 8_000, "is no speaker model"),
        ("speaker/ecapa.minni", 16_000, "speaker/ecapa.mini"),
    ],
)
def test_what_cannot_tell_voices_is_refused_in_one_line(signals, voices, sample_rate, says):
    config = SiSnrConfig(**SiSnrEstimator.Tiny, voices=voices, sample_rate=sample_rate)
    with pytest.raises(AuriscopeError, match=says) as caught:
        SiSnrEstimator(config)(signals.mixture, signals.estimates)
    assert "\n" not in str(caught.value)


def test_of_a_quarter_second_voices_are_not_told(told):
    generator = torch.Generator().manual_seed(0)
    estimates = torch.randn(2, 2, 16_000, generator=generator)
    found = company_of(told[1], estimates.sum(1), estimates, torch.tensor([16_000, 7_000]))
    assert (found[0, :, 3:] != 0).all()
    assert (found[1, :, 3:] == 0).all()


def test_the_published_network_has_its_parameters_and_keys():
    model = RealMEstimator(RealMConfig())
    named = dict(model.named_parameters())
    assert sum(values.numel() for name, values in named.items() if name.startswith("cnn")) == 263_808
    assert sum(values.numel() for name, values in named.items() if name.startswith("layer")) == 66_049
    assert set(named) == {
        *(f"cnn{number}.conv.{kind}" for number in range(1, 6) for kind in ("weight", "bias")),
        *(f"layer{number}.w.{kind}" for number in (1, 2) for kind in ("weight", "bias")),
    }


def test_the_published_network_computes_what_the_paper_says(signals):
    """The same written out plainly: standardise, five convolutions, mean and unbiased deviation, MLP, sigmoid."""
    torch.manual_seed(0)
    model = RealMEstimator(RealMConfig()).eval()
    weights = dict(model.named_parameters())
    mixture, estimate = signals.mixture[0], signals.estimates[0, 1]
    hidden = torch.stack([(x - x.mean()) / x.std() for x in (estimate, mixture)])[None]
    for number, stride in enumerate((1, 2, 2, 2, 2), start=1):
        weight, bias = (weights[f"cnn{number}.conv.{kind}"] for kind in ("weight", "bias"))
        hidden = torch.nn.functional.conv1d(hidden if number == 1 else hidden.relu(), weight, bias, stride=stride)
    pooled = torch.cat([hidden.mean(-1), hidden.std(-1) + 1e-5], -1)
    hidden = torch.nn.functional.linear(pooled, weights["layer1.w.weight"], weights["layer1.w.bias"]).relu()
    expected = 10 * torch.nn.functional.linear(hidden, weights["layer2.w.weight"], weights["layer2.w.bias"]).sigmoid()
    torch.testing.assert_close(model(signals.mixture[:1], signals.estimates[:1])[0, 1], expected[0, 0])


def test_our_scores_are_not_confined_to_the_papers_range(signals):
    torch.manual_seed(0)
    model = SiSnrEstimator(SiSnrConfig(**SiSnrEstimator.Tiny)).eval()
    for bias in (-5.0, 5.0):
        torch.nn.init.constant_(model.output.bias, bias)
        score = model(signals.mixture, signals.estimates)
        assert ((score > 20.0) if bias > 0 else (score < -10.0)).all()
        assert not model.predict(signals.mixture, signals.estimates).in_range.any()
