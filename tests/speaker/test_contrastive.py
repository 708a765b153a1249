"""Contrastive learning: the loss against its formula, and what it finds in made recordings without being told."""

from __future__ import annotations

import math

import pytest
import torch

from auriscope.errors import RecipeError
from auriscope.speaker import ECAPA
from auriscope.speaker.contrastive import ContrastiveOptions, ContrastiveTask, LinearProbe, nt_xent


def test_the_loss_is_its_formula() -> None:
    views = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    total, right = 0.0, 0
    for i in range(8):
        cosine = [float(torch.dot(views[i], other) / views[i].norm() / other.norm()) for other in views]
        j = (i + 4) % 8
        others = [cosine[k] for k in range(8) if k != i]
        total -= math.log(math.exp(cosine[j] / 0.3) / sum(math.exp(c / 0.3) for c in others))
        right += cosine[j] == max(others)
    loss, accuracy = nt_xent(views, 0.3)
    assert loss.item() == pytest.approx(total / 8, rel=1e-5)
    assert accuracy.item() == right / 8


def test_views_that_are_the_same_and_unlike_all_others_cost_nothing() -> None:
    views = torch.eye(6).repeat(2, 1)
    loss, accuracy = nt_xent(views, 0.02)
    assert loss.item() < 1e-6
    assert accuracy.item() == 1.0
    with pytest.raises(ValueError, match="two views"):
        nt_xent(views[:3], 0.1)


def tones(num: int, seed: int) -> torch.Tensor:
    """Recordings, each of its own pitch, at another moment and in other noise for every seed: (recordings, time)."""
    generator = torch.Generator().manual_seed(seed)
    moment = torch.arange(8000) / 16_000
    hertz = 300 * 1.5 ** torch.arange(num)[:, None]
    phase = 6.28 * torch.rand(num, 1, generator=generator)
    return 0.1 * torch.sin(6.2832 * hertz * moment + phase) + 0.01 * torch.randn(num, 8000, generator=generator)


def test_recordings_are_told_apart_without_names() -> None:
    torch.manual_seed(0)
    task = ContrastiveTask(
        ECAPA.from_config(ECAPA.Tiny), ContrastiveOptions(projection_dim=8, num_mel_masks=0, num_time_masks=1)
    )

    def lead() -> float:
        """By how much two views of one recording are more alike than those of two."""
        # In the mode of training, since norms are not settled after so few steps.
        with torch.no_grad():
            embedding = task.model(torch.cat([tones(6, 1001), tones(6, 1002)]))
        embedding = torch.nn.functional.normalize(embedding)
        cosines = embedding[:6] @ embedding[6:].mT
        return float(cosines.diagonal().mean() - (cosines.sum() - cosines.trace()) / 30)

    before = lead()
    optimizer = torch.optim.Adam(task.parameters(), 3e-3)
    losses = []
    for step in range(40):
        waveform = torch.cat([tones(6, 2 * step), tones(6, 2 * step + 1)])
        found = task({"waveform": waveform, "lengths": torch.full((12,), 8000)}, "main")
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(found["loss"].item())
    assert losses[-1] < 0.6 * losses[0]
    assert lead() > before + 0.2


def test_the_head_is_not_in_the_model() -> None:
    task = ContrastiveTask(ECAPA.from_config(ECAPA.Tiny))
    assert {name.split(".")[0] for name, _ in task.named_parameters()} == {"model", "head"}
    assert len(list(task.phases()["main"])) == len(list(task.parameters()))
    assert not any("head" in name for name in task.model.state_dict())


def test_a_probe_trains_its_map_alone() -> None:
    torch.manual_seed(0)
    model = ECAPA.from_config(ECAPA.Tiny)
    probe = LinearProbe(model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    waveform = tones(4, 0)
    # At first it is the frozen model, to the scale.
    with torch.no_grad():
        torch.testing.assert_close(probe.embed(waveform), model.embed(waveform))
    optimizer = torch.optim.SGD([value for value in probe.parameters() if value.requires_grad], 1.0)
    probe(waveform).square().sum().backward()
    optimizer.step()
    assert [name for name, value in probe.named_parameters() if value.requires_grad] == ["map.weight", "map.bias"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.equal(probe.map.weight, torch.eye(12))


def test_options_that_make_no_sense() -> None:
    with pytest.raises(RecipeError, match="temperature"):
        ContrastiveOptions(temperature=0.0)
    with pytest.raises(RecipeError, match="objective"):
        ContrastiveOptions(objective="guess")
