from __future__ import annotations

import pytest
import torch

from auriscope.quality import SiSnrConfig, SiSnrEstimator, WindowScores, predict_long
from auriscope.quality.windows import window_lengths


@pytest.mark.parametrize("num_frames", [1, 39, 40, 41, 79, 80, 81, 1000, 1021])
def test_windows_cover_everything_and_none_is_long_or_needlessly_short(num_frames):
    lengths = window_lengths(num_frames, 40)
    assert sum(lengths) == num_frames
    assert max(lengths) <= 40
    assert min(lengths) >= min(num_frames, 20)


def test_one_window_is_what_the_estimator_says_and_more_lie_between_their_scores(signals):
    torch.manual_seed(0)
    model = SiSnrEstimator(SiSnrConfig(**SiSnrEstimator.Tiny, sample_rate=8000, window_seconds=0.5)).eval()
    mixture, tracks = signals.mixture[0], signals.estimates[0]
    parts = [model.predict(mixture[None, cut], tracks[None, :, cut]) for cut in (slice(0, 4000), slice(4000, 8000))]
    first = predict_long(model, mixture[:4000], tracks[:, :4000])
    torch.testing.assert_close(first.score_db, parts[0].score_db, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(first.expected_error_db, parts[0].expected_error_db)
    whole = predict_long(model, mixture, tracks).score_db
    scores = torch.stack([part.score_db for part in parts])
    assert (whole >= scores.amin(0) - 1e-3).all()
    assert (whole <= scores.amax(0) + 1e-3).all()


def test_a_track_without_energy_has_no_score(signals):
    model = SiSnrEstimator(SiSnrConfig(**SiSnrEstimator.Tiny)).eval()
    scores = WindowScores(model, 2)
    scores.add(signals.mixture[0], signals.estimates[0] * torch.tensor([[0.0], [1.0]]))
    assert scores.result().score_db.isnan().tolist() == [[True, False]]
