"""Microsoft's CLAP of 2022 in a folder as published: ours gives what its own code gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from auriscope.crossmodal import CLAP
from auriscope.crossmodal.windows import embed_recording, window_frames
from auriscope.errors import CheckpointError
from auriscope.pretrained import load
from auriscope.pretrained.foreign import read_tensors

from .conftest import run_peers

TEXTS = ["A dog barking", "rain on a roof, zebra"]

pytest.importorskip("transformers", reason="BERT needs the library transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLAP of Microsoft's as published, and what its code makes of sounds and texts: see peer_clap.py."""
    return run_peers("peer_clap.py", tmp_path_factory.mktemp("microsoft"))


@pytest.mark.peers
@torch.no_grad()
def test_sounds_and_texts_are_those_of_microsoft(folder: Path) -> None:
    told = read_tensors(folder / "outputs.pt")
    for address in (folder, folder / "CLAP_weights_2022.pth"):
        model = load(address)
        assert isinstance(model, CLAP)
        assert window_frames(model) == told["waveform"].shape[1]
        torch.testing.assert_close(model.encode_audio(told["waveform"]), told["heard"], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(model.encode_text(*model.tokenize(TEXTS)), told["read"], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(model.logit_scale, told["scale"])
        alone = embed_recording(model, told["waveform"][1])
        torch.testing.assert_close(alone, F.normalize(told["heard"][1], dim=-1), rtol=1e-3, atol=1e-5)
    assert float(told["heard"].std(0).mean()) > 0.01, "the sounds must differ for the comparison to mean anything"
    assert float(told["read"].std(0).mean()) > 0.01, "the texts must differ for the comparison to mean anything"


@pytest.mark.peers
def test_words_must_lie_beside_it_and_weights_be_whole(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match=r"put its vocab\.txt beside the weights"):
        load(copy)
    shutil.copy(folder / "vocab.txt", copy)
    whole = read_tensors(copy / "CLAP_weights_2022.pth")
    del whole["model"]["audio_encoder.projection.linear2.weight"]
    torch.save(whole, copy / "CLAP_weights_2022.pth")
    with pytest.raises(CheckpointError, match=r"it lacks audio_head\.second\.weight"):
        load(copy)
    torch.save({"model": {"audio_encoder.base.htsat.norm.weight": torch.ones(3)}}, copy / "CLAP_weights_2022.pth")
    with pytest.raises(CheckpointError, match="has no CNN14"):
        load(copy)
