"""SpeechBrain's classifiers of sounds in folders as published: ours give what its own inference gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from auriscope.classification import SoundMaps
from auriscope.errors import CheckpointError
from auriscope.pretrained import load
from auriscope.pretrained.foreign import read_tensors

from .conftest import run_peers

LABELS = ("dog", "chirping birds", "vacuum cleaner", "thunderstorm", "door knock")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn14-esc50": ("classification/cnn14", {"level": "decibels", "channels": (64, 128, 256, 512, 1024, 24)}),
    "cnn14-44k": ("classification/cnn14", {"level": "linear", "max_hz": 8000.0, "sample_rate": 44_100}),
    "conv2d-esc50": ("classification/conv2d", {"level": "log1p", "channels": 12, "num_mels": 0}),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of classifiers as published, and what SpeechBrain makes of waveforms: see peer_classifiers.py."""
    return run_peers("peer_classifiers.py", tmp_path_factory.mktemp("classifiers"))


@pytest.fixture
def conv2d(folders: Path, tmp_path: Path) -> Path:
    """A copy of the smallest of them, to be changed."""
    return shutil.copytree(folders / "conv2d-esc50", tmp_path / "copy")


@pytest.mark.peers
@pytest.mark.parametrize("case", CASES)
def test_classes_are_those_of_speechbrain(case: str, folders: Path) -> None:
    architecture, config = CASES[case]
    model = load(folders / case)
    assert isinstance(model, SoundMaps)
    assert model.name == architecture
    assert model.labels == LABELS
    assert {name: getattr(model.config, name) for name in config} == config
    # Training by an angular margin multiplies the cosines, which inference hands out bare.
    scale = model.config.head.scale if model.config.head.kind == "cosine" else 1.0
    told = read_tensors(folders / case / "outputs.pt")
    for waveform, expected, labels in zip(told["waveforms"], told["outputs"], told["labels"], strict=True):
        with torch.no_grad():
            logits = model(waveform)
        torch.testing.assert_close(logits / scale, expected, rtol=1e-4, atol=1e-5)
        assert [model.labels[index] for index in logits.argmax(1)] == labels


@pytest.mark.peers
def test_a_classifier_beside_an_interpreter_is_the_file_of_its_network(conv2d: Path) -> None:
    (conv2d / "label_encoder.txt").unlink()
    text = (conv2d / "hyperparams.yaml").read_text(encoding="utf-8")
    psi = "    psi: !new:speechbrain.lobes.models.PIQ.VectorQuantizedPSI_Audio\n        dim: 12\n"
    (conv2d / "hyperparams.yaml").write_text(text.replace("modules:\n", f"modules:\n{psi}"), encoding="utf-8")
    model = load(conv2d / "embedding_model.ckpt")
    assert isinstance(model, SoundMaps)
    assert model.labels == ("0", "1", "2", "3", "4")


@pytest.mark.peers
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("spec_mag_power: 0.5", "spec_mag_power: 2.0", "spec_mag_power is 2.0, and must be 0.5 or 1"),
        ("    dim: 12", "    dim: 12\n    depth: 3", "depth"),
        ("    lin_blocks: 1", "    lin_blocks: 2", "has an unknown weight|lacks head.blocks.2"),
        ("ECAPA_TDNN.Classifier", "Xvector.Decoder", "must be a Classifier"),
        ("    sample_rate: !ref <sample_rate>\n", "    sample_rate: !ref <sample_rate>\n    center: False\n", "center"),
    ],
)
def test_what_cannot_be_loaded_is_said(old: str, new: str, says: str, conv2d: Path) -> None:
    text = (conv2d / "hyperparams.yaml").read_text(encoding="utf-8")
    assert old in text
    (conv2d / "hyperparams.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CheckpointError, match=says):
        load(conv2d)


@pytest.mark.peers
def test_labels_must_be_as_many_as_classes(conv2d: Path) -> None:
    (conv2d / "label_encoder.txt").write_text("'dog' => 0\n'cat' => 1\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="does not name 5 classes"):
        load(conv2d)
