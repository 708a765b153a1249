from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from auriscope.errors import RecipeError
from auriscope.training.config import TrainingConfig
from auriscope.training.optimization import (
    AverageWeights,
    Schedule,
    build_optimizer,
    optimizer_state,
    set_optimizer_state,
)


def rates(steps, **values):
    schedule = Schedule(TrainingConfig(learning_rate=1.0, **values), higher_is_better=True)
    return [schedule.learning_rate(step) for step in steps]


def test_warmup_rises_linearly_to_the_learning_rate():
    assert rates([0, 4, 9, 10, 500], warmup_steps=10) == pytest.approx([0.1, 0.5, 1, 1, 1])


def test_cosine_equals_torchs_own():
    config = TrainingConfig(learning_rate=0.3, schedule="cosine", max_steps=50, final_fraction=0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.03)
    schedule = Schedule(config, higher_is_better=True)
    for step in range(50):
        assert schedule.learning_rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        reference.step()


def test_exponential_halves_every_so_many_steps():
    assert rates([0, 100, 200], schedule="exponential", decay_steps=100) == pytest.approx([1, 0.5, 0.25])


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_plateau_halves_after_patience_validations_without_a_new_best(higher_is_better):
    sign = 1 if higher_is_better else -1
    schedule = Schedule(TrainingConfig(learning_rate=1.0, schedule="plateau", plateau_patience=2), higher_is_better)
    seen = []
    for metric in (1, 2, 1, 3, 3, math.nan, 2, 2):
        schedule.observe(sign * metric)
        seen.append(schedule.learning_rate(0))
    assert seen == [1, 1, 1, 1, 1, 0.5, 0.5, 0.25]
    copy = Schedule(schedule.config, higher_is_better)
    copy.set_state(schedule.state())
    assert copy.state() == schedule.state()


def test_an_optimizer_keeps_its_memory_and_takes_new_settings():
    def steps(optimizer, parameter, count):
        for _ in range(count):
            parameter.grad = parameter.detach() + 1
            optimizer.step()

    parameter = nn.Parameter(torch.ones(3))
    optimizer = build_optimizer([parameter], TrainingConfig(optimizer="adamw", weight_decay=0.1))
    steps(optimizer, parameter, 3)
    other = nn.Parameter(parameter.detach().clone())
    continued = build_optimizer([other], TrainingConfig(optimizer="adamw", weight_decay=0.1))
    set_optimizer_state(continued, deepcopy(optimizer_state(optimizer)))
    steps(optimizer, parameter, 3)
    steps(continued, other, 3)
    assert torch.equal(parameter, other)

    changed = build_optimizer([other], TrainingConfig(optimizer="adamw", weight_decay=0.7))
    set_optimizer_state(changed, optimizer_state(optimizer))
    assert changed.param_groups[0]["weight_decay"] == 0.7


def test_frozen_parameters_are_left_out():
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    assert build_optimizer(layer.parameters(), TrainingConfig()).param_groups[0]["params"] == [layer.weight]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.BatchNorm1d(2)
        self.third = nn.Linear(2, 2)
        self.third.weight = self.first.weight


def test_the_average_of_weights_follows_its_definition_and_copies_buffers():
    module = Tied()
    average = AverageWeights(module, decay=0.5)
    expected = module.first.weight.detach().clone()
    for step in range(12):
        with torch.no_grad():
            module.first.weight.add_(1)
            module.second.running_mean.add_(1)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.first.weight.detach()
        average.update(step)
    current = module.first.weight.detach().clone()
    with average.applied():
        assert torch.allclose(module.first.weight, expected)
        assert module.third.weight is module.first.weight
        assert torch.equal(module.second.running_mean, torch.full((2,), 12.0))
    assert torch.equal(module.first.weight, current)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_steps", 0),
        ("learning_rate", math.nan),
        ("max_minutes", -1.0),
        ("warmup_steps", -1),
        ("final_fraction", 2.0),
        ("decay_factor", 0.0),
        ("average_decay", 1.0),
        ("betas", (0.9, 1.0)),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(RecipeError, match=f"training.{name}"):
        TrainingConfig(**{name: value})
