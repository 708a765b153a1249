"""Figures of interpreters: known ones of interpreters that keep all, nothing, or what they should."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from auriscope.interpretation import Interpretation, Interpreter
from auriscope.verbs.interpretation_figures import FIGURES, Example, interpretation_figures

from .hearers import HIGH, LOW, Bands, BandsConfig, Sides, SidesConfig


class Keeps(Interpreter):
    """Keeps the columns of a range, of shares of the width."""

    def __init__(self, begin: float, end: float) -> None:
        self.begin, self.end = begin, end

    def interpret(self, classifier: object, x: Tensor, label: Tensor | None = None) -> Interpretation:
        mask = torch.zeros(len(x), 1, *x.shape[2:])
        mask[..., round(self.begin * x.shape[3]) : round(self.end * x.shape[3])] = 1.0
        return Interpretation(mask, classifier.classify_maps(x).argmax(1) if label is None else label)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Pictures with more on the left than on the right."""
    torch.manual_seed(0)
    x = torch.rand(6, 1, 8, 12)
    x[..., 6:] *= 0.3
    return x


def pairs(images: Tensor) -> Iterator[Example]:
    sources = torch.stack((images[:, 0].clone(), images[:, 0].clone()), 1)
    sources[:, 0, :, 6:] = 0
    sources[:, 1, :, :6] = 0
    labels = torch.tensor([[0, -1]]).expand(len(images), -1)
    for start in (0, 3):
        part = slice(start, start + 3)
        yield Example(images[part], tuple(map(str, range(start, start + 3))), None, sources[part], labels[part])


def test_who_keeps_all_loses_nothing(images: Tensor) -> None:
    found = interpretation_figures(Sides(SidesConfig()), [Keeps(0, 1)], lambda: [Example(images, tuple("abcdef"))])
    assert set(found) == set(FIGURES)
    assert found["input_fidelity"].mean == 1.0
    assert found["average_drop"].mean == found["average_gain"].mean == found["average_increase"].mean == 0.0
    assert found["fid"].mean == pytest.approx(0.0, abs=1e-9)
    assert found["sparseness"].mean == pytest.approx(0.0, abs=1e-9)
    # An even picture is told as much left as right.
    assert found["faithfulness"].mean > 0.3


def test_who_keeps_nothing_is_as_far_as_can_be(images: Tensor) -> None:
    found = interpretation_figures(Sides(SidesConfig()), [Keeps(0, 0)], lambda: pairs(images))
    assert found["faithfulness"].mean == 0.0
    assert found["sparseness"].mean is None
    assert found["sparseness"].num_excluded == 6
    assert found["fid"].mean is not None
    assert found["fid"].mean > 1.0
    assert found["si_snri_db"].mean is not None
    assert found["si_snri_db"].mean < -30


def test_who_keeps_the_right_half_of_a_mixture_gets_its_source(images: Tensor) -> None:
    classifier = Sides(SidesConfig())
    good = interpretation_figures(classifier, [Keeps(0, 0.5)], lambda: pairs(images))
    bad = interpretation_figures(classifier, [Keeps(0.5, 1)], lambda: pairs(images))
    assert good["decided_share"].mean == 1.0
    assert good["si_snri_db"].mean > 50
    assert bad["si_snri_db"].mean < 0
    assert good["faithfulness"].mean > bad["faithfulness"].mean
    assert good["input_fidelity"].mean == 1.0
    assert bad["input_fidelity"].mean == 0.0


def test_seeds_are_examples_once_more_and_their_own_distances(images: Tensor) -> None:
    classifier = Sides(SidesConfig())
    done: list[int] = []
    both = interpretation_figures(
        classifier, [Keeps(0, 0.5), Keeps(0.5, 1)], lambda: pairs(images), on_example=done.append
    )
    alone = [interpretation_figures(classifier, [each], lambda: pairs(images)) for each in (Keeps(0, 0.5), Keeps(0.5, 1))]  # fmt: skip  # noqa: E501
    assert both["input_fidelity"].num_values == 12
    assert both["input_fidelity"].mean == 0.5
    # Both seeds of an example are drawn together: every draw has as many of either.
    assert (both["input_fidelity"].low, both["input_fidelity"].high) == (0.5, 0.5)
    assert both["fid"].mean == pytest.approx(sum(each["fid"].mean or 0 for each in alone) / 2)
    assert done == [3, 6, 9, 12]


def test_sounds_are_measured_by_their_waveforms() -> None:
    mixture = torch.from_numpy(LOW + HIGH)[None]
    sources = torch.stack((torch.from_numpy(LOW), torch.from_numpy(HIGH)))[None]
    labels = torch.tensor([[0, 2]])

    def examples() -> list[Example]:
        return [
            Example(mixture, ("decided",), None, sources, labels),
            Example(mixture, ("asked",), torch.tensor([2]), sources, labels),
            Example(mixture, ("neither",), torch.tensor([1]), sources, labels),
        ]

    found = interpretation_figures(Bands(BandsConfig()), [Keeps(0, 0.5)], examples)
    # Of the low tone all is kept, of the high one nothing, and of what is not there nothing can be said.
    assert found["si_snri_db"].num_values == 2
    assert found["si_snri_db"].num_excluded == 1
    assert found["decided_share"].mean == pytest.approx(2 / 3)
    low = interpretation_figures(Bands(BandsConfig()), [Keeps(0, 0.5)], lambda: examples()[:1])
    assert low["si_snri_db"].mean > 20
