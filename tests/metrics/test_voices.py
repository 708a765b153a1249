from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from auriscope.metrics.voices import clip_consistency, likeness


def test_speech_is_compared_with_every_voice() -> None:
    rng = np.random.default_rng(0)
    speech, voices, labels = rng.normal(size=(12, 5)), rng.normal(size=(4, 5)), list(rng.integers(4, size=12))
    found = likeness(speech, voices, labels)
    scores = cosine_similarity(speech, voices)
    np.testing.assert_allclose(found.scores, scores)
    assert list(found.right) == [int(row.argmax()) == label for row, label in zip(scores, labels, strict=True)]
    assert found.target == pytest.approx(np.mean([row[label] for row, label in zip(scores, labels, strict=True)]))
    others = [np.delete(row, label).mean() for row, label in zip(scores, labels, strict=True)]
    assert found.others == pytest.approx(np.mean(others))


def test_a_tie_is_not_right() -> None:
    assert likeness([[1.0, 0.0]], [[1.0, 0.0], [2.0, 0.0]], [0]).share == 0.0


def test_the_clip_does_not_matter_where_speech_is_the_same() -> None:
    rng = np.random.default_rng(1)
    centres, labels = rng.normal(size=(6, 16)), np.repeat(np.arange(6), 3)
    still = clip_consistency(centres[labels], labels)
    assert still.same_voice.mean == pytest.approx(1.0)
    noisy = clip_consistency(centres[labels] + rng.normal(size=(18, 16)), labels)
    assert noisy.same_voice.mean is not None
    assert noisy.same_voice.low is not None
    assert noisy.same_voice.high is not None
    assert noisy.same_voice.low <= noisy.same_voice.mean <= noisy.same_voice.high
    assert noisy.margin < still.margin
    scores = cosine_similarity(centres[labels])
    assert still.other_voice == pytest.approx(scores[labels[:, None] != labels[None]].mean())


def test_a_voice_with_one_clip_counts_among_the_others_alone() -> None:
    found = clip_consistency([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0, 0, 1])
    assert (found.same_voice.mean, found.same_voice.num_values, found.other_voice) == (1.0, 1, 0.0)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="two voices"):
        likeness([[1.0]], [[1.0]], [0])
    with pytest.raises(ValueError, match="two clips"):
        clip_consistency([[1.0], [1.0]], [0, 1])
    with pytest.raises(ValueError, match="not zero"):
        likeness([[0.0]], [[1.0], [1.0]], [0])
