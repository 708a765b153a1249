"""SpeechBrain's Tacotron 2 in a folder as published: ours gives what its own gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from auriscope.errors import CheckpointError
from auriscope.pretrained import load
from auriscope.pretrained.foreign import read_tensors
from auriscope.signal.vocoding import MEL_22K
from auriscope.synthesis.interop.tacotron2 import symbols
from auriscope.synthesis.tacotron2 import Tacotron2

from .conftest import run_peers


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as published, and what SpeechBrain computes with it: see peer_tacotron2.py."""
    return run_peers("peer_tacotron2.py", tmp_path_factory.mktemp("tacotron2"))


@pytest.fixture
def model(folder: Path) -> Tacotron2:
    found = load(folder / "model")
    assert isinstance(found, Tacotron2)
    return found


@pytest.fixture
def saved(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = read_tensors(folder / "outputs.pt")
    return values


def close(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.peers
def test_told_the_frames_it_gives_what_speechbrains_gives(model: Tacotron2, saved: dict[str, Any]) -> None:
    with torch.no_grad():
        spoken = model(saved["tokens"], None, saved["frames"].mT)
    close(spoken.mel, saved["mel"].mT)
    close(spoken.refined, saved["refined"].mT)
    close(spoken.attention, saved["attention"])
    close(spoken.stop_logits, saved["gates"])


@pytest.mark.peers
def test_speaking_it_gives_what_speechbrains_gives(
    model: Tacotron2, saved: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.prenet, "dropout", 0.0)
    frames = saved["said"].shape[2]
    said = model.generate(saved["tokens"], max_seconds=(frames + 0.5) * MEL_22K.frame_seconds)
    assert not said.stopped.any()
    close(said.mel, saved["said"].mT)
    close(said.attention, saved["looked"].reshape(said.attention.shape))


@pytest.mark.peers
def test_texts_are_the_same_tokens(model: Tacotron2, saved: dict[str, Any]) -> None:
    assert len(symbols()) == len(saved["symbols"]) == 148
    same = [ours == theirs for ours, theirs in zip(symbols(), saved["symbols"], strict=True)]
    # Only the capitals are called otherwise.
    assert same.count(False) == 26
    assert model.encode_text(saved["text"]) == saved["tokens"][0].tolist()
    assert model.config.mel == MEL_22K


@pytest.mark.peers
@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("n_frames_per_step: 1", "n_frames_per_step: 2", "n_frames_per_step: 2"),
        ("n_symbols: 148", "n_symbols: 149", "n_symbols: 149"),
        ("encoder_embedding_dim: 24", "encoder_embedding_dim: 25", "encoder_embedding_dim: 25"),
        ("attention_rnn_dim: 32", "attention_rnn_dim: 33", "has shape"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(folder: Path, tmp_path: Path, old: str, new: str, line: str) -> None:
    shutil.copytree(folder / "model", tmp_path / "model")
    file = tmp_path / "model" / "hyperparams.yaml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(CheckpointError, match=line) as raised:
        load(tmp_path / "model")
    assert "\n" not in str(raised.value)


@pytest.mark.peers
def test_a_folder_without_weights_is_one_line(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "model" / "hyperparams.yaml", tmp_path)
    with pytest.raises(CheckpointError, match=r"it has no model\.ckpt"):
        load(tmp_path)
