"""A run that is killed, stopped or continued ends where an undisturbed one ends, bit for bit."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from auriscope.errors import CheckpointError
from auriscope.training.checkpoints import BEST, LAST, PREVIOUS, load_tree, load_weights

CLOCK = {"seconds"}


def same(left, right, path=""):
    """Whether two trees of tensors and values are equal to the bit; the clock may differ."""
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        keys = left.keys() - CLOCK
        return keys == right.keys() - CLOCK and all(same(left[key], right[key]) for key in keys)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def steps(path):
    with path.open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def columns(path):
    with path.open() as file:
        return [{name: value for name, value in row.items() if name != "minutes"} for row in csv.DictReader(file)]


def test_sigkill_at_random_moments_changes_nothing(tmp_path, tiny):
    kills = 10
    command = [sys.executable, tiny.__file__, "kill", str(tmp_path), "1", str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    reports = [line.split() for line in done.stdout.splitlines() if line.startswith("status")]
    assert len(reports) == kills
    # At least one kill must have hit a run under way, else nothing was tested.
    assert any(int(status) == signal.SIGKILL and 0 < int(step) < 60 for _, status, _, step in reports), done.stdout

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert same(load_tree(undisturbed / LAST), load_tree(killed / LAST))
    assert same(load_tree(undisturbed / BEST), load_tree(killed / BEST))
    assert columns(undisturbed / "train.csv") == columns(killed / "train.csv")
    assert columns(undisturbed / "valid.csv") == columns(killed / "valid.csv")
    assert steps(killed / "train.csv") == list(range(5, 61, 5))


def test_a_longer_budget_continues_as_if_it_had_been_so_from_the_start(tmp_path, tiny):
    at_once = tiny.run(tmp_path / "at_once", max_steps=44)
    # 23 is neither a validation nor a checkpoint nor a logging step.
    first = tiny.run(tmp_path / "in_two", max_steps=23)
    second = tiny.run(tmp_path / "in_two", max_steps=44)
    assert (first.step, second.step, at_once.step) == (23, 44, 44)
    left, right = load_tree(tmp_path / "at_once" / LAST), load_tree(tmp_path / "in_two" / LAST)
    for part in ("task", "average", "optimizers", "schedule", "random"):
        assert same(left[part], right[part]), part
    assert columns(tmp_path / "at_once" / "train.csv") == columns(tmp_path / "in_two" / "train.csv")
    assert steps(tmp_path / "in_two" / "valid.csv") == [10, 20, 23, 30, 40, 44]
    assert second.minutes > first.minutes
    assert second.hours_of_audio == pytest.approx(44 * 2 * 4 * 50 / 100 / 3600)


def test_a_finished_run_is_left_as_it_is(tmp_path, tiny):
    first = tiny.run(tmp_path, max_steps=12)
    weights = load_tree(tmp_path / LAST)["task"]
    again = tiny.run(tmp_path, max_steps=12)
    assert again.step == first.step == 12
    assert again.metrics == first.metrics
    assert same(weights, load_tree(tmp_path / LAST)["task"])
    assert steps(tmp_path / "valid.csv") == [10, 12]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(tmp_path, tiny, number):
    handler = signal.getsignal(number)
    valid_csv = tmp_path / "run" / "valid.csv"

    def interrupt():
        while not valid_csv.exists():  # the first validation: the run is under way
            time.sleep(0.005)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    result = tiny.run(tmp_path / "run", pause=0.005, checkpoint_every_steps=None)
    thread.join()
    assert result.stopped_by == "signal"
    assert 10 <= result.step < 60
    assert load_tree(tmp_path / "run" / LAST)["state"]["step"] == result.step
    assert signal.getsignal(number) is handler

    tiny.run(tmp_path / "run")
    tiny.run(tmp_path / "undisturbed")
    left, right = load_tree(tmp_path / "run" / LAST), load_tree(tmp_path / "undisturbed" / LAST)
    assert same(left["task"], right["task"])


def test_a_damaged_newest_checkpoint_falls_back_to_the_previous_one(tmp_path, tiny):
    tiny.run(tmp_path / "run", max_steps=30)
    path = tmp_path / "run" / LAST
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"):
        tiny.run(tmp_path / "run")
    tiny.run(tmp_path / "undisturbed")
    left, right = load_tree(tmp_path / "run" / LAST), load_tree(tmp_path / "undisturbed" / LAST)
    assert same(left["task"], right["task"])


def test_no_whole_checkpoint_is_an_error_that_leaves_them_in_place(tmp_path, tiny):
    tiny.run(tmp_path, max_steps=6)
    for name in (LAST, PREVIOUS):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:200])
    with pytest.raises(CheckpointError, match="to start anew"):
        tiny.run(tmp_path)
    assert (tmp_path / LAST).stat().st_size == 200


def test_the_checkpoint_of_another_model_is_refused_in_one_line(tmp_path, tiny):
    tiny.run(tmp_path, max_steps=2)
    task = tiny.TinyTask()
    task.model[3] = torch.nn.Linear(16, 9)
    with pytest.raises(CheckpointError, match="another model or recipe") as caught:
        tiny.fit(task, tiny.TinyBatches(), tiny.VALID, tiny.TrainingConfig(accelerator="cpu"), tmp_path)
    assert "\n" not in str(caught.value)


def test_the_best_weights_are_those_that_were_measured(tmp_path, tiny):
    result = tiny.run(tmp_path)
    task = tiny.TinyTask().eval()
    facts = load_weights(tmp_path, task.model)
    with torch.no_grad():
        error = torch.cat([task.evaluate(batch)["error"] for batch in tiny.VALID]).mean()
    assert facts["step"] == result.best_step
    assert float(error) == pytest.approx(result.best_metric, rel=1e-5)
