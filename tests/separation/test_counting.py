from __future__ import annotations

import json
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from auriscope.data.synthetic import voice
from auriscope.errors import CheckpointError
from auriscope.separation.counting import (
    CountClassifier,
    SpeakerCount,
    estimate_num_speakers,
    separation_features,
    track_features,
)
from auriscope.separation.fingerprint import SpectralFingerprint

RATE = 8000
SECONDS = 7.5


def talkers(numbers: list[int], utterance: int = 0) -> np.ndarray:
    return np.stack([0.2 * voice(number, utterance, seconds=SECONDS, sample_rate=RATE) for number in numbers])


class Oracle:
    """Separates a known recording into ``num_sources`` outputs, as well as so few or many outputs can."""

    def __init__(self, sources: np.ndarray, num_sources: int) -> None:
        self.config = types.SimpleNamespace(sample_rate=RATE, num_sources=num_sources)
        outputs = np.zeros((num_sources, sources.shape[1]), np.float32)
        for number, source in enumerate(sources):
            # The talkers that are too many share the last output.
            outputs[min(number, num_sources - 1)] += source
        for number in range(len(sources), num_sources):
            outputs[number] = 0.02 * np.roll(sources[0], 40)
        self.outputs = outputs

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.outputs)[None]


def described(sources: np.ndarray) -> tuple[np.ndarray, list[Oracle]]:
    return sources.sum(axis=0), [Oracle(sources, 2), Oracle(sources, 3)]


@pytest.fixture(scope="module")
def examples() -> tuple[list[dict[str, float]], list[int]]:
    features, counts = [], []
    for count in (1, 2, 3, 4):
        for draw in range(6):
            numbers = np.random.default_rng([count, draw]).choice(24, count, replace=False).tolist()
            mixture, separators = described(talkers(numbers, draw))
            found = separation_features(mixture, separators, sample_rate=RATE)
            assert found is not None
            features.append(found)
            counts.append(count)
    return features, counts


@pytest.fixture(scope="module")
def classifier(examples) -> CountClassifier:
    return CountClassifier.fit(*examples, separators=["two", "three"])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_talkers_are_counted_that_the_fit_never_heard(classifier, count):
    for draw in range(2):
        numbers = np.random.default_rng([7, count, draw]).choice(np.arange(24, 36), count, replace=False).tolist()
        mixture, separators = described(talkers(numbers))
        answer = estimate_num_speakers(mixture, separators, classifier, sample_rate=RATE)
        assert (answer.count, answer.at_least) == (count, False)
        assert 0.25 < (answer.confidence or 0.0) <= 1.0


def test_more_than_three_are_told_as_at_least_three(classifier, examples):
    answers = [classifier.decide(classifier.probabilities(one)) for one in examples[0]]
    more = [answer.at_least for answer, count in zip(answers, examples[1], strict=True) if count == 4]
    fewer = [answer.at_least for answer, count in zip(answers, examples[1], strict=True) if count < 3]
    assert np.mean(more) > 0.8
    assert not any(fewer)
    assert {answer.count for answer in answers} == {1, 2, 3}


def test_silence_is_nobody_to_separate(classifier):
    mixture = np.zeros(RATE, np.float32)
    separators = [Oracle(talkers([1, 2]), 2)]
    assert estimate_num_speakers(mixture, separators, classifier, sample_rate=RATE) == SpeakerCount(1)


def test_without_a_separator_for_three_three_means_at_least_three(examples):
    features, counts = examples
    two_only = [{name: value for name, value in one.items() if name.startswith("2:")} for one in features]
    merged = [min(count, 3) for count in counts]
    fitted = CountClassifier.fit(two_only, merged, max_separated=2)
    answer = fitted.decide(np.array([0.1, 0.1, 0.8]))
    assert (answer.count, answer.at_least) == (3, True)
    assert not fitted.decide(np.array([0.1, 0.8, 0.1])).at_least


def test_features_say_what_they_are_called():
    fingerprint = SpectralFingerprint()
    first, second = talkers([3, 20])
    apart = track_features(np.stack([first, second]), first + second, RATE, fingerprint)
    shared = track_features(np.stack([0.7 * first, 0.3 * first]), first, RATE, fingerprint)
    lone = track_features(np.stack([0.001 * second, first]), first, RATE, fingerprint)
    assert apart is not None
    assert shared is not None
    assert lone is not None
    assert apart["left_over_db"] == -60.0
    assert abs(apart["level_db_2"]) < 6.0
    assert apart["heard_2"] > 0.3
    assert apart["waveform_correlation"] < 0.3
    assert shared["waveform_correlation"] == pytest.approx(1.0)
    assert shared["most_alike"] > 0.99 > apart["most_alike"]
    assert lone["level_db_2"] < -50.0
    assert lone["heard_2"] < 0.3
    assert lone["loudest_2"] == 0.0
    half = track_features(np.stack([first, second]), first + second + 1.0, RATE, fingerprint)
    assert half is not None
    assert half["left_over_db"] > -3.0


def test_features_do_not_depend_on_the_level():
    sources = talkers([3, 20])
    quiet = track_features(0.1 * sources, 0.1 * sources.sum(axis=0), RATE, SpectralFingerprint())
    loud = track_features(sources, sources.sum(axis=0), RATE, SpectralFingerprint())
    assert quiet is not None
    assert loud is not None
    assert quiet == pytest.approx(loud, abs=1e-3)


def test_the_fit_agrees_with_the_gradient_of_its_likelihood():
    """With a penalty almost zero, a maximum likelihood fit gives each class its share in the training data."""
    generator = np.random.default_rng(0)
    counts = [1] * 40 + [2] * 40
    examples = [{"a": generator.normal(count, 2.0), "b": generator.normal()} for count in counts]
    fitted = CountClassifier.fit(examples, counts, penalty=1e-9)
    mean = np.mean([fitted.probabilities(example) for example in examples], axis=0)
    np.testing.assert_allclose(mean, [0.5, 0.5], atol=1e-3)
    by_sign = [fitted.probabilities({"a": value, "b": 0.0})[1] for value in (-1.0, 1.5, 4.0)]
    assert by_sign == sorted(by_sign)


def test_saved_and_loaded_is_the_same(tmp_path: Path, classifier, examples):
    classifier.save(tmp_path / "counter.json")
    loaded = CountClassifier.load(tmp_path / "counter.json")
    for one in examples[0]:
        np.testing.assert_array_equal(loaded.probabilities(one), classifier.probabilities(one))
    assert loaded.separators == ("two", "three")
    assert loaded.classes == (1, 2, 3, 4)


@pytest.mark.parametrize("damage", ["missing", "text", "version", "shape", "list"])
def test_a_damaged_counter_is_named(tmp_path: Path, classifier, damage):
    path = tmp_path / "counter.json"
    if damage != "missing":
        classifier.save(path)
        values = json.loads(path.read_text())
        values |= {"version": {"format_version": 99}, "shape": {"bias": [0.0]}}.get(damage, {})
        path.write_text({"text": "{", "list": "[]"}.get(damage, json.dumps(values)))
    with pytest.raises(CheckpointError, match=r"counter\.json"):
        CountClassifier.load(path)


def test_other_separators_than_those_it_was_fitted_with_are_refused(classifier):
    mixture, separators = described(talkers([1, 2]))
    with pytest.raises(ValueError, match="other separators"):
        estimate_num_speakers(mixture, separators[:1], classifier, sample_rate=RATE)
