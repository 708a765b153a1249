"""Several processes, accumulated batches and one large batch are the same training."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from auriscope.training.checkpoints import BEST, LAST, load_tree


def weights(folder):
    return load_tree(folder / LAST)["task"]


def largest_difference(left, right):
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.fixture(scope="module")
def large_batches(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    tiny.parallel(folder, processes=1, accumulate=1, rows=8)
    return folder


def test_two_processes_equal_one_with_batches_twice_as_large(large_batches, tiny, tmp_path):
    command = [sys.executable, tiny.__file__, "parallel", str(tmp_path), "2", "1", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert largest_difference(weights(tmp_path), weights(large_batches)) < 1e-5
    left, right = load_tree(tmp_path / LAST), load_tree(large_batches / LAST)
    assert left["state"]["audio_seconds"] == right["state"]["audio_seconds"] == 12 * 8 * 0.5
    assert len(left["random"]) == 2
    assert not torch.equal(left["random"][0]["torch"], left["random"][1]["torch"])
    assert load_tree(tmp_path / BEST)["facts"]["error"] == pytest.approx(
        load_tree(large_batches / BEST)["facts"]["error"], rel=1e-4
    )
    for name in ("train.csv", "valid.csv"):
        with (tmp_path / name).open() as one, (large_batches / name).open() as other:
            rows, expected = list(csv.DictReader(one)), list(csv.DictReader(other))
        assert len(rows) == len(expected) > 0
        for row, wanted in zip(rows, expected, strict=True):
            for key in set(row) - {"minutes"}:
                assert float(row[key]) == pytest.approx(float(wanted[key]), rel=1e-3), key


def test_accumulated_batches_equal_one_large_batch(large_batches, tiny, tmp_path):
    tiny.parallel(tmp_path, processes=1, accumulate=2, rows=4)
    assert largest_difference(weights(tmp_path), weights(large_batches)) < 1e-5
    # The comparison means something only if the weights moved.
    initial = tiny.TinyTask().state_dict()
    assert largest_difference(weights(tmp_path), initial) > 1e-2


STAGED = """
task: separation
model:
  architecture: separation/twostep
  config:
    {num_filters: 32, kernel_size: 16, stride: 8, bottleneck_channels: 8, hidden_channels: 8, num_blocks: 1}
data: {corpora: [synthetic], sample_rate: 8000, segment_seconds: 0.5, batch_size: 2}
task_options: {stage_batches: [2]}
validation: {sets: []}
training: {max_steps: 4, num_processes: 2, log_every_steps: 1}
"""


def test_what_a_stage_does_not_train_is_no_obstacle_to_two_processes(tmp_path):
    (tmp_path / "staged.yaml").write_text(STAGED)
    program = Path(sys.executable).with_name("auriscope")
    command = [program, "train", str(tmp_path / "staged.yaml"), "--run", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run" / "train.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
