"""VIBI: draws that follow the probabilities and let gradients pass, chunks over any input, and what it finds."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from auriscope.classification import ImageCNN
from auriscope.errors import CheckpointError
from auriscope.interpretation import VIBI, TrainedInterpreter
from auriscope.interpretation.task import see
from auriscope.interpretation.vibi import best_chunks, draw_chunks

from .conftest import draw_pictures

PROBABILITIES = torch.tensor([0.7, 0.2, 0.08, 0.02])


def test_draws_follow_the_probabilities() -> None:
    # Logarithms taken for probabilities would make the least probable chunk the most frequent one.
    torch.manual_seed(0)
    drawn = draw_chunks(PROBABILITIES.log().expand(20_000, -1), 1, 0.5)
    share = drawn.argmax(1).bincount(minlength=4) / len(drawn)
    torch.testing.assert_close(share, PROBABILITIES, atol=0.012, rtol=0.0)
    torch.testing.assert_close(drawn.sum(1), torch.ones(len(drawn)))


def test_gradients_pass_through_a_draw() -> None:
    torch.manual_seed(0)
    scores = torch.zeros(512, 4, requires_grad=True)
    # The third chunk is worth something: its score must be told to rise, those of the others to fall.
    (-draw_chunks(scores.log_softmax(1), 2, 0.5)[:, 2].mean()).backward()
    assert scores.grad is not None
    slope = scores.grad.sum(0)
    assert slope[2] < -0.01
    assert (slope[[0, 1, 3]] > 0.001).all()


def test_several_draws_take_the_highest_of_each_chunk() -> None:
    torch.manual_seed(0)
    log_probabilities = PROBABILITIES.log().expand(4000, -1)
    cold = draw_chunks(log_probabilities, 2, 0.01).round()
    # Of two draws, a chunk is among them with 1 - (1 - p)².
    torch.testing.assert_close(cold.mean(0), 1.0 - (1.0 - PROBABILITIES) ** 2, atol=0.025, rtol=0.0)


def test_the_best_chunks_are_the_most_probable() -> None:
    chosen = best_chunks(torch.tensor([[0.1, 0.4, 0.3, 0.2], [0.4, 0.1, 0.2, 0.3]]).log(), 2)
    assert chosen.tolist() == [[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("size", [(12, 12), (9, 17), (3, 2)])
def test_a_mask_is_of_whole_chunks(size: tuple[int, int], bars_classifier: ImageCNN) -> None:
    torch.manual_seed(0)
    model = VIBI.from_config({**VIBI.Tiny, "chunk_height": 4, "chunk_width": 5, "chosen_share": 0.3}).eval()
    x = torch.rand(3, 1, *size)
    mask = model(x, (), torch.zeros(3, dtype=torch.int64))
    assert mask.shape == x.shape
    rows, columns = -(-size[0] // 4), -(-size[1] // 5)
    chunks = mask[:, 0, ::4, ::5]
    assert chunks.shape[1:] == (rows, columns)
    assert chunks.sum((1, 2)).tolist() == [max(1, round(0.3 * rows * columns))] * 3
    assert torch.equal(mask, model.spread(chunks, x))


def test_the_loss_is_that_of_the_paper(bars_classifier: ImageCNN) -> None:
    torch.manual_seed(0)
    model = VIBI.from_config({**VIBI.Tiny, "num_classes": 3, "compression_weight": 0.3, "chunk_height": 3})
    seen = see(bars_classifier, draw_pictures(8, 1).x)
    losses = model.losses(seen, 0)
    assert losses["loss"].item() == pytest.approx(
        losses["information"].item() + 0.3 * losses["compression"].item(), rel=1e-5
    )
    # Equal probabilities tell nothing of the input; one chunk for certain, all that there is.
    torch.nn.init.zeros_(model.explainer.score.weight)
    assert model.losses(seen, 0)["compression"].item() == pytest.approx(0.0, abs=1e-5)
    assert losses["compression"].item() < model.num_chosen(12) * math.log(12)


def test_it_finds_what_the_classifier_decided_by(
    taught: Callable[..., TrainedInterpreter], bars_classifier: ImageCNN
) -> None:
    model = taught(VIBI, chunk_height=2, chunk_width=2, chosen_share=0.14, explainer_channels=(8, 12))
    pictures = draw_pictures(200, 10_001)
    found = model.interpret(bars_classifier, pictures.x)
    assert set(found.mask.unique().tolist()) == {0.0, 1.0}
    bars, spots = pictures.bars, pictures.x - pictures.bars
    of_bars, of_spots = ((found.mask * part).sum() / part.sum() for part in (bars, spots))
    assert of_bars > max(0.45, 2.0 * of_spots)
    kept = bars_classifier(found.mask * pictures.x).argmax(1) == found.label
    assert kept.float().mean() > 0.85


@pytest.mark.parametrize(
    "wrong", [{"chosen_share": 0.0}, {"temperature": 0.0}, {"chunk_width": 0}, {"compression_weight": -1.0}]
)
def test_configurations_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(CheckpointError, match="must"):
        VIBI.from_config(wrong)
