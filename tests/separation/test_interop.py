"""What can be said of foreign checkpoints without the toolkits that made them; tests/interop has the rest."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from auriscope.errors import CheckpointError
from auriscope.pretrained.model import model_class
from auriscope.separation import interop


class Malicious:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("created-by-unpickling"),))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps(Malicious(), protocol=2)])
def test_files_that_are_no_checkpoints(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        interop.read_tensors(path)
    assert not (tmp_path / "created-by-unpickling").exists()


def test_a_checkpoint_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model_name": "ConvTasNet", "model_args": Malicious()}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError):
        interop.read_tensors(tmp_path / "model.pth")
    assert not (tmp_path / "created-by-unpickling").exists()


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({}, "not an Asteroid checkpoint"),
        ({"model_name": "DCCRNet", "model_args": {}, "state_dict": {}}, "DCCRNet cannot be loaded"),
        ({"model_name": "ConvTasNet", "model_args": {"fb_name": "stft"}, "state_dict": {}}, "fb_name='stft'"),
        ({"model_name": "ConvTasNet", "model_args": {"norm_type": "bN"}, "state_dict": {}}, "norm_type='bN'"),
        ({"model_name": "DPRNNTasNet", "model_args": {"surprise": 1}, "state_dict": {}}, "'surprise'"),
        ({"model_name": "ConvTasNet", "model_args": {"out_chan": 3}, "state_dict": {}}, "another size"),
    ],
)
def test_asteroid_models_that_cannot_be_loaded(checkpoint: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        interop.from_asteroid(checkpoint)


def test_missing_surplus_and_misshaped_weights() -> None:
    config = {"num_filters": 8, "bottleneck_channels": 4, "hidden_size": 4, "num_blocks": 1}
    weights = model_class("separation/dprnn").from_config(config).state_dict()
    assert interop.Foreign("separation/dprnn", config, weights).build().num_parameters > 0
    fewer = {key: value for key, value in weights.items() if key != "masker.prelu.weight"}
    with pytest.raises(CheckpointError, match=r"lacks masker\.prelu\.weight"):
        interop.Foreign("separation/dprnn", config, fewer).build()
    with pytest.raises(CheckpointError, match="unknown weight extra"):
        interop.Foreign("separation/dprnn", config, {**weights, "extra": torch.zeros(1)}).build()
    with pytest.raises(CheckpointError, match="has shape"):
        interop.Foreign("separation/dprnn", config, {**weights, "encoder.weight": torch.zeros(3)}).build()


def test_not_a_sepformer() -> None:
    with pytest.raises(CheckpointError, match="not a SepFormer"):
        interop.from_speechbrain_sepformer({}, {}, {})
