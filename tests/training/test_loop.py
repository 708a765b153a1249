"""What the loop does besides resuming: precision, phases, bad gradients, budgets."""

from __future__ import annotations

import csv
import math

import pytest
import torch
from torch import nn

from auriscope.errors import AuriscopeError
from auriscope.training import loop
from auriscope.training.checkpoints import BEST, LAST, load_tree
from auriscope.training.config import TrainingConfig
from auriscope.training.evaluation import evaluate
from auriscope.training.loop import fit


def config(**changes):
    values = {"accelerator": "cpu", "max_steps": 40, "learning_rate": 0.01, "log_every_steps": 10}
    return TrainingConfig(**(values | {"validate_every_steps": 20} | changes))


def test_training_learns(tmp_path, tiny):
    task = tiny.TinyTask(corrupt=False)
    before = evaluate(task, tiny.VALID).means()["error"]
    result = fit(task, tiny.TinyBatches(), tiny.VALID, config(max_steps=300), tmp_path)
    assert result.stopped_by == "steps"
    assert result.best_metric < 0.5 * before
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_computes_in_bf16_where_the_machine_can_and_keeps_the_weights_in_float32(
    tmp_path, tiny, monkeypatch, capsys, fast
):
    monkeypatch.setattr(loop, "has_fast_bfloat16", lambda accelerator: fast)
    seen = []

    class Watched(tiny.TinyTask):
        def forward(self, batch, phase):
            seen.append(self.model(batch["mixture"]).dtype)
            return super().forward(batch, phase)

    exact = tiny.TinyTask(corrupt=False)
    fit(exact, tiny.TinyBatches(), tiny.VALID, config(), tmp_path / "exact")
    mixed = Watched(corrupt=False)
    fit(mixed, tiny.TinyBatches(), tiny.VALID, config(precision="bf16-mixed"), tmp_path / "mixed")
    assert ("training in float32" in capsys.readouterr().err) is not fast
    assert set(seen) == {torch.bfloat16 if fast else torch.float32}
    assert {value.dtype for value in load_tree(tmp_path / "mixed" / LAST)["task"].values()} == {torch.float32}
    difference = max(
        float((a - b).detach().abs().max()) for a, b in zip(exact.parameters(), mixed.parameters(), strict=True)
    )
    assert (0 < difference < 0.05) if fast else difference == 0


class TwoPhases(nn.Module):
    """A generator that moves a number, and a discriminator that follows it; each phase moves its own only."""

    higher_is_better = True
    selection_metric = "generated"

    def __init__(self):
        super().__init__()
        self.model = nn.Linear(1, 1)
        self.discriminator = nn.Linear(1, 1)
        self.seen = []

    def phases(self):
        return {"discriminator": self.discriminator.parameters(), "generator": self.model.parameters()}

    def forward(self, batch, phase):
        self.seen.append((phase, self.model.weight.item(), self.discriminator.weight.item()))
        judged = self.discriminator(self.model(batch["mixture"])).mean()
        return {"loss": judged if phase == "discriminator" else -judged}

    def evaluate(self, batch):
        return {"generated": self.model(batch["mixture"])[:, 0]}


def test_each_phase_updates_its_own_parameters_in_turn(tmp_path):
    task = TwoPhases()
    batches = [{"mixture": torch.ones(2, 1)}]
    fit(task, batches, batches, config(max_steps=3, log_every_steps=3), tmp_path)
    assert [phase for phase, _, _ in task.seen] == ["discriminator", "generator"] * 3
    for (_, generator, discriminator), (_, new_generator, new_discriminator) in zip(
        task.seen[::2], task.seen[1::2], strict=True
    ):
        assert generator == new_generator  # the discriminator's phase left the generator alone …
        assert discriminator != new_discriminator  # … and moved its own
    with (tmp_path / "train.csv").open() as file:
        assert {"discriminator_loss", "generator_loss", "generator_gradient_norm"} < next(csv.DictReader(file)).keys()
    assert load_tree(tmp_path / LAST)["optimizers"].keys() == {"discriminator", "generator"}


class Faulty:
    """Batches of which some are NaN."""

    def __init__(self, batches, faulty):
        self.batches, self.faulty = batches, faulty

    def batch(self, index):
        batch = dict(self.batches.batch(index))
        if self.faulty(index):
            batch["mixture"] = batch["mixture"] * math.nan
        return batch


def test_updates_with_nonfinite_gradients_are_skipped_counted_and_warned_of(tmp_path, tiny):
    task = tiny.TinyTask(corrupt=False)
    batches = Faulty(tiny.TinyBatches(), lambda index: index in (3, 4, 9))
    with pytest.warns(UserWarning, match="3 skipped so far"):
        result = fit(task, batches, tiny.VALID, config(max_nonfinite_in_a_row=3), tmp_path)
    assert result.skipped_updates == 3
    assert all(parameter.isfinite().all() for parameter in task.parameters())
    assert math.isfinite(result.best_metric)


def test_too_many_nonfinite_gradients_in_a_row_end_the_run_with_one_line(tmp_path, tiny):
    batches = Faulty(tiny.TinyBatches(), lambda index: index >= 5)
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(AuriscopeError, match="3 times in a row") as caught:
        fit(tiny.TinyTask(), batches, tiny.VALID, config(max_nonfinite_in_a_row=3), tmp_path)
    assert "\n" not in str(caught.value)


def test_minutes_are_counted_over_continuations(tmp_path, tiny):
    first = tiny.run(tmp_path, pause=0.01, max_steps=10_000, max_minutes_per_call=0.01)
    assert first.stopped_by == "minutes"
    assert 0.01 <= first.minutes < 0.1
    second = tiny.run(tmp_path, pause=0.01, max_steps=10_000, max_minutes=first.minutes + 0.01)
    assert second.stopped_by == "minutes"
    assert second.step > first.step
    third = tiny.run(tmp_path, pause=0.01, max_steps=10_000, max_minutes=first.minutes + 0.01)
    assert third.step == second.step


def test_the_best_weights_follow_the_direction_of_the_metric(tmp_path):
    class Falling(TwoPhases):
        def phases(self):
            return {"main": self.model.parameters()}

        def forward(self, batch, phase):
            return {"loss": self.model(batch["mixture"]).mean()}

    batches = [{"mixture": torch.ones(2, 1)}]
    rising = Falling()
    rising.higher_is_better = True
    result = fit(rising, batches, batches, config(validate_every_steps=10), tmp_path / "higher")
    assert result.best_step == 10  # the loss drives the metric down: the first measurement stays the best
    latest = config(validate_every_steps=10, choose="latest")
    assert fit(rising, batches, batches, latest, tmp_path / "latest").best_step == 40
    falling = Falling()
    falling.higher_is_better = False
    result = fit(falling, batches, batches, config(validate_every_steps=10), tmp_path / "lower")
    assert result.best_step == 40
    assert load_tree(result.best)["weights"].keys() == {"weight", "bias"}


def test_validation_uses_the_averaged_weights_and_training_does_not(tmp_path, tiny):
    task = tiny.TinyTask(corrupt=False)
    fit(task, tiny.TinyBatches(), tiny.VALID, config(average_decay=0.9, max_steps=20), tmp_path)
    tree = load_tree(tmp_path / LAST)
    best = load_tree(tmp_path / BEST)["weights"]
    assert all(torch.equal(best[name], tree["average"][f"model.{name}"]) for name in best)
    assert not any(torch.equal(best[name], tree["task"][f"model.{name}"]) for name in best)
    assert all(torch.equal(value, tree["task"][name]) for name, value in task.state_dict().items())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, tiny):
    (tmp_path / "file").write_text("")
    with pytest.raises(AuriscopeError, match="folder cannot be made"):
        tiny.run(tmp_path / "file" / "run")
