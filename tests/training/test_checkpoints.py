from __future__ import annotations

import os
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from auriscope.errors import CheckpointError
from auriscope.training import checkpoints
from auriscope.training.checkpoints import load_tree, load_weights, save_latest, save_tree, save_weights

TREE = {
    "tensors": [torch.arange(6.0).reshape(2, 3).T, torch.tensor(3), torch.zeros(0, 2), torch.tensor([True, False])],
    "half": torch.randn(4, dtype=torch.bfloat16),
    "values": {"a": 0.1, "b": None, "c": [1, "two", True], "infinite": float("-inf")},
}


def test_a_tree_comes_back_exactly(tmp_path):
    save_tree(tmp_path / "tree", TREE)
    back = load_tree(tmp_path / "tree")
    for before, after in zip([*TREE["tensors"], TREE["half"]], [*back["tensors"], back["half"]], strict=True):
        assert before.dtype == after.dtype
        assert torch.equal(before, after)
    assert back["values"] == TREE["values"]


def test_tensors_that_share_memory_are_saved(tmp_path):
    shared = torch.randn(3)
    save_tree(tmp_path / "tree", {"one": shared, "two": shared, "part": shared[1:]})
    assert torch.equal(load_tree(tmp_path / "tree")["part"], shared[1:])


@pytest.mark.parametrize("position", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_flipped_bit_anywhere_is_noticed(tmp_path, position):
    path = tmp_path / "tree"
    save_tree(path, TREE)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged|not a checkpoint"):
        load_tree(path)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_noticed(tmp_path, keep):
    path = tmp_path / "tree"
    save_tree(path, TREE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        load_tree(path)


def test_a_pickle_is_never_executed(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    for name, write in {
        "plain": lambda f: pickle.dump(Malicious(), f),
        "torch": lambda f: torch.save(Malicious(), f),
    }.items():
        with (tmp_path / name).open("wb") as file:
            write(file)
        with pytest.raises(CheckpointError):
            load_tree(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_a_missing_file_and_an_unwritable_place_are_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_tree(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_tree(tmp_path / "file" / "tree", TREE)


def test_a_write_that_fails_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    save_latest(tmp_path, {"step": 1})

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_latest(tmp_path, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == [checkpoints.LAST]
    assert checkpoints.load_latest(tmp_path) == {"step": 1}


def test_a_kill_between_the_renames_leaves_the_previous_checkpoint(tmp_path):
    save_latest(tmp_path, {"step": 1})
    (tmp_path / checkpoints.LAST).rename(tmp_path / checkpoints.PREVIOUS)
    assert checkpoints.load_latest(tmp_path) == {"step": 1}


def test_weights_come_back_and_others_are_refused(tmp_path):
    layer = nn.Linear(3, 2)
    save_weights(tmp_path / checkpoints.BEST, layer.state_dict(), {"step": 7})
    other = nn.Linear(3, 2)
    assert load_weights(tmp_path, other) == {"step": 7}
    assert torch.equal(layer.weight, other.weight)
    with pytest.raises(CheckpointError, match="do not fit") as caught:
        load_weights(tmp_path, nn.Linear(3, 3))
    assert "\n" not in str(caught.value)


def test_random_states_survive_a_file(tmp_path):
    def draw():
        return [random.gauss(0, 1), np.random.randn(), torch.randn(1).item(), random.random(), np.random.rand()]

    draw()  # leaves half of a gaussian pair behind in python and numpy
    save_tree(tmp_path / "tree", checkpoints.random_state())
    expected = [draw() for _ in range(3)]
    checkpoints.set_random_state(load_tree(tmp_path / "tree"))
    assert [draw() for _ in range(3)] == expected
    state = checkpoints.random_state()
    expected = draw()
    checkpoints.set_random_state(state)
    with checkpoints.untouched_randomness():
        assert draw() == expected
    assert draw() == expected
