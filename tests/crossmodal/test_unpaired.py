"""Curation and soft targets against their definitions, element by element."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.crossmodal.losses import clap_loss
from auriscope.crossmodal.unpaired import (
    DU_THRESHOLD,
    nearest,
    pairs_above,
    soft_clap_loss,
    soft_targets,
    thresholds_of,
)


def unit(rows: int, dim: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)).double(), dim=-1)


def test_pairs_are_all_above_the_threshold_and_the_nearest_first() -> None:
    audio, text = unit(7, 3, 0), unit(5, 3, 1)
    cosines = audio @ text.T
    expected = {(i, j) for i in range(7) for j in range(5) if cosines[i, j] >= 0.4}
    # Blocks of two recordings change nothing.
    pairs = pairs_above(audio, text, 0.4, block=2)
    assert 3 < len(expected) < 30
    assert set(zip(pairs.audio.tolist(), pairs.text.tolist(), strict=True)) == expected
    assert torch.equal(pairs.cosine, cosines[pairs.audio, pairs.text])
    assert pairs.audio.tolist() == sorted(pairs.audio.tolist())
    for number in pairs.audio.unique():
        own = pairs.cosine[pairs.audio == number]
        assert torch.equal(own, own.sort(descending=True).values)


def test_most_keeps_the_nearest_texts_of_each_recording() -> None:
    audio, text = unit(7, 3, 0), unit(5, 3, 1)
    whole, kept = pairs_above(audio, text, 0.0), pairs_above(audio, text, 0.0, most=1)
    assert len(kept) < len(whole)
    for number in range(7):
        own = whole.audio == number
        assert kept.text[kept.audio == number].tolist() == whole.text[own][:1].tolist()


def test_most_of_many_alike_are_the_first() -> None:
    text = unit(5, 3, 1)[[0, 1, 1, 1, 2]]
    pairs = pairs_above(text[1:2], text, -1.0, most=2)
    assert pairs.text.tolist() == [1, 2]


def test_a_cosine_at_the_threshold_is_a_pair_and_nothing_is_not() -> None:
    audio, text = torch.eye(2), torch.eye(2)
    assert len(pairs_above(audio, text, 1.0)) == 2
    assert len(pairs_above(audio, text, 1.1)) == 0
    assert len(pairs_above(audio[:0], text, 0.0)) == 0


def test_captions_near_a_label() -> None:
    text, prompts = unit(9, 3, 2), unit(4, 3, 3)
    cosine, label = nearest(text, prompts)
    cosines = (text @ prompts.T).tolist()
    assert cosine.tolist() == pytest.approx([max(row) for row in cosines])
    assert label.tolist() == [row.index(max(row)) for row in cosines]


def test_the_thresholds_are_the_papers() -> None:
    assert (thresholds_of("urbansound8k").caption, thresholds_of("urbansound8k").audio) == (0.6, 0.7)
    assert (thresholds_of("tut17").caption, thresholds_of("tut17").audio) == (0.675, 0.65)
    for domain in ("esc50", "another"):
        assert (thresholds_of(domain).caption, thresholds_of(domain).audio) == (0.7, 0.7)
    assert DU_THRESHOLD == 0.75


def test_soft_targets_by_hand() -> None:
    embedding = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    found = soft_targets(embedding, 0.3)
    # Negative cosines count as nothing, and the rows do not sum to one.
    expected = torch.tensor([[1.0, 0.18, 0.0], [0.18, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert torch.allclose(found, expected)
    assert torch.allclose(soft_targets(embedding, 0.3, normalised=True).sum(1), torch.ones(3))
    assert torch.equal(soft_targets(embedding, 0.0), torch.eye(3))


@pytest.mark.parametrize("normalised", [False, True])
def test_the_soft_loss_without_a_teacher_is_the_clap_loss(normalised: bool) -> None:
    audio, text = unit(6, 4, 4).requires_grad_(), unit(6, 4, 5).requires_grad_()
    scale = torch.tensor(1 / 0.07, dtype=torch.float64, requires_grad=True)
    soft = soft_clap_loss(audio, text, scale, unit(6, 4, 6), unit(6, 4, 7), beta=0.0, normalised=normalised)
    hard = clap_loss(audio, text, scale)
    assert torch.allclose(soft, hard, rtol=1e-12)
    ours = torch.autograd.grad(soft, (audio, text, scale))
    theirs = torch.autograd.grad(hard, (audio, text, scale))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


def test_the_soft_loss_by_its_definition() -> None:
    audio, text, teacher_audio, teacher_text = (unit(4, 3, seed) for seed in (8, 9, 10, 11))
    scale, beta = torch.tensor(5.0, dtype=torch.float64), 0.3
    found = soft_clap_loss(audio, text, scale, teacher_audio, teacher_text, beta=beta)
    total = 0.0
    for left, right, teacher in ((audio, text, teacher_audio), (text, audio, teacher_text)):
        for i in range(4):
            logits = [5.0 * float(left[i] @ right[j]) for j in range(4)]
            norm = math.log(sum(map(math.exp, logits)))
            for j in range(4):
                target = (1 - beta) * (i == j) + beta * float(teacher[i] @ teacher[j])
                if target > 0:
                    total += target * (math.log(target) - (logits[j] - norm))
    assert float(found) == pytest.approx(total / 8)
    # torch's own divergence, whose arguments are these, where no cosine is negative.
    near = F.normalize(teacher_audio.abs(), dim=-1)
    found = soft_clap_loss(audio, text, scale, near, near, beta=beta)
    logits = 5.0 * audio @ text.T
    target = soft_targets(near, beta)
    both = [F.kl_div(each.log_softmax(1), target, reduction="batchmean") for each in (logits, logits.T)]
    assert float(found) == pytest.approx(float(sum(both)) / 2)
