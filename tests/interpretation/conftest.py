"""Pictures of bars with a spot that means nothing, and a classifier of them that any interpreter can explain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.classification import ImageCNN
from auriscope.interpretation import TrainedInterpreter
from auriscope.interpretation.interpreter import facts
from auriscope.interpretation.task import see

SIZE, LENGTH = 12, 5


@dataclass(frozen=True)
class Pictures:
    """Pictures ``x`` (batch, 1, 12, 12): ``bars``, lying (class 0), upright (1) or crossed (2), and a spot apart."""

    x: Tensor
    bars: Tensor
    label: Tensor


def draw_pictures(number: int, seed: int) -> Pictures:
    """Draw so many pictures, always the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (number,), generator=generator)
    bars, spots = torch.zeros(2, number, 1, SIZE, SIZE)
    for bar, spot, kind in zip(bars[:, 0], spots[:, 0], label.tolist(), strict=True):
        row, column = torch.randint(SIZE - LENGTH + 1, (2,), generator=generator).tolist()
        if kind != 1:
            bar[row + LENGTH // 2, column : column + LENGTH] = 1.0
        if kind != 0:
            bar[row : row + LENGTH, column + LENGTH // 2] = 1.0
        near = F.max_pool2d(bar[None], 3, 1, 1)[0]
        while not spot.any() or bool((spot * near).any()):
            row, column = torch.randint(SIZE - 1, (2,), generator=generator).tolist()
            spot.zero_()[row : row + 2, column : column + 2] = 1.0
    return Pictures(bars + spots, bars, label)


@pytest.fixture(scope="session")
def bars_classifier() -> ImageCNN:
    """A frozen classifier that tells the bars apart, with two hidden maps."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = ImageCNN.from_config(
            {"labels": ("lying", "upright", "crossed"), "height": SIZE, "width": SIZE}
            | {"stage_channels": (8, 16), "strides": (1, 2), "dropout": 0.0}
        )
        optimizer = torch.optim.Adam(classifier.parameters(), 5e-3)
        for step in range(80):
            seen = draw_pictures(48, step)
            optimizer.zero_grad()
            F.cross_entropy(classifier(seen.x), seen.label).backward()
            optimizer.step()
    classifier.eval().requires_grad_(False).zero_grad()
    test = draw_pictures(200, 10_000)
    assert (classifier(test.x).argmax(1) == test.label).float().mean() > 0.97
    return classifier


@pytest.fixture(scope="session")
def taught(bars_classifier: ImageCNN) -> Callable[..., TrainedInterpreter]:
    """How an interpreter of that classifier is made and trained, by default in 80 steps."""

    def teach(kind: type[TrainedInterpreter], steps: int = 80, **config: object) -> TrainedInterpreter:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = kind.from_config({**facts(bars_classifier, kind.Config), **config})
            model.begin([see(bars_classifier, draw_pictures(400, 9).x)])
            optimizer = torch.optim.Adam(model.parameters(), 5e-3)
            for step in range(steps):
                optimizer.zero_grad()
                model.losses(see(bars_classifier, draw_pictures(48, 1000 + step).x), step)["loss"].backward()
                optimizer.step()
        return model.eval()

    return teach
