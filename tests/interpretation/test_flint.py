"""FLINT: attributes that tell the class, where they come from, what shows them, and the losses' beginnings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from auriscope.classification import ImageCNN
from auriscope.errors import CheckpointError
from auriscope.interpretation import FLINT, TrainedInterpreter
from auriscope.interpretation.flint import Attributes, entropy_terms, soft_cross_entropy
from auriscope.interpretation.task import see

from .conftest import draw_pictures


@pytest.fixture(scope="module")
def model(taught: Callable[..., TrainedInterpreter]) -> FLINT:
    flint = taught(FLINT, steps=50)
    assert isinstance(flint, FLINT)
    return flint


@pytest.mark.parametrize("size", [(6, 6), (7, 4), (2, 11), (1, 1)])
def test_the_places_shares_sum_to_the_attributes(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    attributes = Attributes(3, 4, 5).double()
    attributes.project.bias.data.zero_()
    hidden = torch.randn(2, 3, *size, dtype=torch.float64)
    weights = torch.randn(2, 5, dtype=torch.float64)
    shares = attributes.shares(hidden, weights)
    assert shares.shape == (2, 1, *size)
    torch.testing.assert_close(shares.sum((1, 2, 3)), (weights * attributes(hidden)).sum(1))


def test_a_places_share_is_that_of_what_lies_there() -> None:
    torch.manual_seed(0)
    attributes = Attributes(2, 4, 3)
    attributes.conv.bias.data.zero_()  # type: ignore[union-attr]
    hidden = torch.zeros(1, 2, 9, 9)
    hidden[:, :, 2, 6] = 1.0
    shares = attributes.shares(hidden, torch.ones(1, 3))[0, 0]
    assert shares[1:4, 5:8].abs().sum() > 0.0
    shares[1:4, 5:8] = 0.0
    assert not shares.any()


def test_relevance_is_of_the_most_that_any_attribute_adds() -> None:
    model = FLINT.from_config({**FLINT.Tiny, "num_attributes": 3, "num_classes": 2})
    model.tell.weight.data = torch.tensor([[1.0, 2.0, -1.0], [0.0, 1.0, 1.0]])
    attributes = torch.tensor([[2.0, 0.5, 4.0], [2.0, 0.5, 4.0], [0.0, 0.0, 0.0]])
    relevance = model.relevance(attributes, torch.tensor([0, 1, 0]))
    assert relevance.tolist() == [[0.5, 0.25, -1.0], [0.0, 0.125, 1.0], [0.0, 0.0, 0.0]]


def test_without_an_attribute_that_speaks_for_the_class_the_mask_is_empty(
    model: FLINT, bars_classifier: ImageCNN
) -> None:
    x = draw_pictures(4, 3).x
    maps = bars_classifier.hidden(x)
    weight = model.tell.weight.data.clone()
    try:
        # Attributes are above zero here, so that they speak against a class by negative weights.
        model.tell.weight.data = -model.attributes(maps[-1]).sign()[:3] * weight.abs()
        assert not model(x[:3], tuple(each[:3] for each in maps), torch.arange(3)).any()
    finally:
        model.tell.weight.data = weight


def test_entropies_are_low_for_concise_and_diverse_attributes() -> None:
    concise = 50.0 * torch.eye(4)
    alike = torch.full((4, 4), 3.0)
    same = 50.0 * torch.eye(4)[:1].expand(4, -1)
    # Many over the batch, one at a time: minus the entropy of four equal ones.
    assert entropy_terms(concise).item() == pytest.approx(-torch.tensor(4.0).log().item(), abs=1e-3)
    assert entropy_terms(alike).item() == pytest.approx(0.0, abs=1e-5)
    assert entropy_terms(same).item() == pytest.approx(0.0, abs=1e-3)


def test_soft_cross_entropy_is_torchs() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 5, 3)
    expected = F.cross_entropy(logits, target.softmax(1))
    torch.testing.assert_close(soft_cross_entropy(logits, target), expected)


def test_losses_begin_one_after_the_other(model: FLINT, bars_classifier: ImageCNN) -> None:
    late = FLINT.from_config(
        {**FLINT.Tiny, "num_classes": 3, "hidden_channels": (8, 16), "output_from": 2, "entropy_from": 4}
    )
    seen = see(bars_classifier, draw_pictures(8, 1).x)
    config = late.config
    for index in range(6):
        losses = late.losses(seen, index)
        expected = config.input_weight * losses["input"]
        if index >= 2:
            expected = expected + config.output_weight * losses["output"] + config.sparse_weight * losses["sparse"]
        if index >= 4:
            expected = expected + config.entropy_weight * losses["entropy"]
        torch.testing.assert_close(losses["loss"], expected)


def test_attributes_tell_what_the_classifier_decides(model: FLINT, bars_classifier: ImageCNN) -> None:
    seen = see(bars_classifier, draw_pictures(200, 10_002).x)
    told = model.tell(model.attributes(seen.maps[-1])).argmax(1)
    assert (told == seen.label).float().mean() > 0.9


def test_it_finds_what_the_classifier_decided_by(model: FLINT, bars_classifier: ImageCNN) -> None:
    pictures = draw_pictures(200, 10_001)
    found = model.interpret(bars_classifier, pictures.x)
    assert found.mask.min() >= 0.0
    torch.testing.assert_close(found.mask.amax((1, 2, 3)), torch.ones(200))
    bars, spots = pictures.bars, pictures.x - pictures.bars
    of_bars, of_spots = ((found.mask * part).sum() / part.sum() for part in (bars, spots))
    assert of_bars > max(0.5, 2.0 * of_spots)
    kept = bars_classifier(found.mask * pictures.x).argmax(1) == found.label
    assert kept.float().mean() > 0.8


def test_another_class_has_another_interpretation(model: FLINT, bars_classifier: ImageCNN) -> None:
    pictures = draw_pictures(60, 10_003)
    crossed = pictures.x[pictures.label == 2]
    lying, upright = (
        model.interpret(bars_classifier, crossed, torch.full((len(crossed),), label)).mask for label in (0, 1)
    )
    assert (lying - upright).abs().mean() > 0.05


def test_an_attribute_is_shown_by_what_makes_it_strong(model: FLINT, bars_classifier: ImageCNN) -> None:
    x = draw_pictures(4, 5).x
    before = model.attributes(bars_classifier.hidden(0.3 * x)[-1])
    attribute = int(before.std(0).argmax())
    shown = model.strengthened(bars_classifier, x, attribute, num_steps=40)
    assert shown.shape == x.shape
    assert shown.min() >= 0.0
    assert shown.max() <= 1.0
    after = model.attributes(bars_classifier.hidden(shown)[-1])
    assert (after[:, attribute] > before[:, attribute] + 0.1).all()
    assert all(parameter.grad is None for parameter in bars_classifier.parameters())


@pytest.mark.parametrize(
    "wrong", [{"threshold": 1.0}, {"num_attributes": 0}, {"entropy_from": -1}, {"mel_hz": (50.0, 80.0)}]
)
def test_configurations_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="must"):
        FLINT.from_config(wrong)
