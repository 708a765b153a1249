"""L-MAC: its losses by hand, its masks on pictures, and on sounds whose maps are of mels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from auriscope.classification import CNN, ImageCNN
from auriscope.errors import CheckpointError
from auriscope.interpretation import LMAC, TrainedInterpreter
from auriscope.interpretation.interpreter import facts
from auriscope.interpretation.task import see

from .conftest import draw_pictures


def test_the_loss_is_that_of_the_paper(bars_classifier: ImageCNN) -> None:
    torch.manual_seed(0)
    model = LMAC.from_config({**facts(bars_classifier, LMAC.Config), "channels": 4})
    seen = see(bars_classifier, draw_pictures(8, 1).x)
    mask = model(seen.x, seen.maps, seen.label)
    decided = bars_classifier(seen.x).argmax(1)
    inside = F.cross_entropy(bars_classifier(mask * seen.x), decided)
    without = F.cross_entropy(bars_classifier(seen.x - mask * seen.x), decided)
    expected = 4.0 * inside - 0.2 * without + 0.4 * mask.mean()
    torch.testing.assert_close(model.losses(seen, 0)["loss"], expected)


def test_it_finds_what_the_classifier_decided_by(
    taught: Callable[..., TrainedInterpreter], bars_classifier: ImageCNN
) -> None:
    model = taught(LMAC, channels=12)
    pictures = draw_pictures(200, 10_001)
    found = model.interpret(bars_classifier, pictures.x)
    inside = found.mask * pictures.x
    kept, left = (bars_classifier(part).argmax(1) == found.label for part in (inside, pictures.x - inside))
    assert kept.float().mean() > 0.9
    assert left.float().mean() < 0.6
    bars, spots = pictures.bars, pictures.x - pictures.bars
    of_bars, of_spots = ((found.mask * part).sum() / part.sum() for part in (bars, spots))
    assert of_bars > max(0.6, 2.0 * of_spots)


@pytest.mark.parametrize("num_stages", [1, 2, 9])
def test_masks_of_sounds_of_any_length(num_stages: int) -> None:
    torch.manual_seed(0)
    classifier = CNN.from_config(CNN.Tiny).eval()
    model = LMAC.from_config(
        {**facts(classifier, LMAC.Config), "num_stages": num_stages, "channels": 4, "fine_channels": 3}
    )
    assert model.config.mel_hz == (classifier.config.min_hz, classifier.config.sample_rate / 2)
    for frames in (1, 30, 101):
        x = torch.rand(2, 1, frames, classifier.config.fft_length // 2 + 1)
        mask = model.interpret(classifier, x).mask
        assert mask.shape == x.shape
        assert mask.min() > 0.0
        assert mask.max() < 1.0


@pytest.mark.parametrize(
    "wrong", [{"num_stages": 0}, {"in_weight": -1.0}, {"mel_hz": (500.0, 50.0), "sample_rate": 8000}]
)
def test_configurations_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="must"):
        LMAC.from_config(wrong)
