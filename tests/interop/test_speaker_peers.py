"""SpeechBrain's speaker models of VoxCeleb in folders as published: ours give what its own inference gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from auriscope.errors import CheckpointError
from auriscope.pretrained import load
from auriscope.pretrained.foreign import read_tensors
from auriscope.speaker import Embedder

from .conftest import run_peers

ECAPA, XVECTOR = "spkrec-ecapa-voxceleb", "spkrec-xvect-voxceleb"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    ECAPA: ("speaker/ecapa", {"channels": 24, "aggregated_channels": 40, "scale": 4, "dim": 18, "sum_blocks": False}),
    XVECTOR: ("speaker/xvector", {"channels": 20, "pooled_channels": 48, "dim": 16, "num_mels": 24}),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of speaker models as published, and what SpeechBrain makes of waveforms: see peer_speakers.py."""
    return run_peers("peer_speakers.py", tmp_path_factory.mktemp("speakers"))


@pytest.mark.peers
@pytest.mark.parametrize("case", CASES)
def test_embeddings_are_those_of_speechbrain(case: str, folders: Path) -> None:
    architecture, config = CASES[case]
    model = load(folders / case)
    assert isinstance(model, Embedder)
    assert model.name == architecture
    assert {name: getattr(model.config, name) for name in config} == config
    saved = read_tensors(folders / case / "outputs.pt")
    for waveform, expected in zip(saved["waveforms"], saved["outputs"], strict=True):
        assert expected.std() > 0.05
        # The plain way and the quick one.
        torch.testing.assert_close(model(waveform).detach(), expected, atol=1e-4, rtol=1e-4)
        with torch.no_grad():
            torch.testing.assert_close(model(waveform), expected, atol=1e-4, rtol=1e-4)
    # Two of one voice and length, and of another: what they are alone.
    lengths = torch.tensor([waveform.shape[1] for waveform in saved["waveforms"] if len(waveform) == 1])
    rows = [waveform[0] for waveform in saved["waveforms"] if len(waveform) == 1]
    with torch.no_grad():
        found = model(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths)
    alone = [
        expected for waveform, expected in zip(saved["waveforms"], saved["outputs"], strict=True) if len(waveform) == 1
    ]
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.peers
@pytest.mark.parametrize("case", CASES)
def test_a_loaded_model_is_saved_as_ours(case: str, folders: Path, tmp_path: Path) -> None:
    model = load(folders / case)
    model.save_pretrained(tmp_path / "own")
    again = load(tmp_path / "own")
    assert again.config == model.config
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())


@pytest.mark.peers
def test_a_hub_address_brings_it(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repository, **options: str(folders / ECAPA))
    assert load(f"hf://speechbrain/{ECAPA}").name == "speaker/ecapa"


@pytest.mark.peers
@pytest.mark.parametrize(
    ("case", "change", "line"),
    [
        (ECAPA, ("dilations: [1, 2, 3, 4, 1]", "dilations: [1, 2, 2, 2, 1]"), r"with dilations: \[1, 2, 2, 2, 1\]"),
        (ECAPA, ("channels: [24, 24, 24, 24, 40]", "channels: [24, 24, 40]"), "with channels"),
        (ECAPA, ("lin_neurons: 18", "lin_neurons: 20"), "has shape"),
        (ECAPA, ("std_norm: False", "std_norm: True"), "InputNormalization with std_norm: True"),
        (ECAPA, ("res2net_scale: 4", "global_context: False"), "with global_context: False"),
        (ECAPA, ("models.ECAPA_TDNN.ECAPA_TDNN", "models.ResNet.ResNet"), "a ResNet cannot be loaded"),
        (XVECTOR, ("LeakyReLU\n    tdnn_blocks", "ReLU\n    tdnn_blocks"), "with activation: ReLU"),
        (XVECTOR, ("tdnn_blocks: 5", "tdnn_blocks: 4"), "with tdnn_blocks: 4"),
        (XVECTOR, ("n_mels: 24", "n_mels: 30"), "has shape"),
    ],
)
def test_what_is_otherwise_is_refused(
    case: str, change: tuple[str, str], line: str, folders: Path, tmp_path: Path
) -> None:
    shutil.copytree(folders / case, tmp_path, dirs_exist_ok=True)
    settings = tmp_path / "hyperparams.yaml"
    text = settings.read_text()
    assert change[0] in text
    settings.write_text(text.replace(*change, 1))
    with pytest.raises(CheckpointError, match=line) as raised:
        load(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.peers
def test_a_folder_that_is_not_whole_is_one_line(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / ECAPA, tmp_path, dirs_exist_ok=True)
    (tmp_path / "embedding_model.ckpt").rename(tmp_path / "elsewhere.bin")
    with pytest.raises(CheckpointError, match=r"it has no embedding_model\.ckpt"):
        load(tmp_path)
    (tmp_path / "elsewhere.bin").rename(tmp_path / "embedding_model.ckpt")
    (tmp_path / "hyperparams.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"but not its hyperparams\.yaml; copy it there"):
        load(tmp_path)
