"""SpeechBrain's HiFi-GAN in folders as published: ours gives what its own gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from auriscope.errors import CheckpointError
from auriscope.pretrained import load
from auriscope.pretrained.foreign import read_tensors
from auriscope.signal.vocoding import MEL_16K, MEL_22K, speech_mel
from auriscope.synthesis.discriminators import Discriminators
from auriscope.synthesis.hifigan import HiFiGAN

from .conftest import run_peers

MELS = {"v1": MEL_22K, "v2_16k": MEL_16K, "v3": MEL_22K}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models as published, and what SpeechBrain computes with them: see peer_hifigan.py."""
    return run_peers("peer_hifigan.py", tmp_path_factory.mktemp("hifigan"))


@pytest.mark.peers
@pytest.mark.parametrize("case", MELS)
def test_a_vocoder_gives_what_speechbrains_gives(case: str, folder: Path) -> None:
    vocoder = load(folder / case)
    assert isinstance(vocoder, HiFiGAN)
    assert vocoder.config.mel == MELS[case]
    assert vocoder.config.pad_mode == "reflect"
    if case == "v1":
        assert len(vocoder.state_dict()) == 234
        assert round(vocoder.num_parameters / 1e6, 2) == 13.94
    saved = read_tensors(folder / f"{case}.pt")
    for mel, expected in zip(saved["mels"], saved["outputs"], strict=True):
        assert 0.01 < expected.std() < 0.99
        with torch.no_grad():
            torch.testing.assert_close(vocoder(mel.mT), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(vocoder(mel.mT).detach(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.peers
@pytest.mark.parametrize("case", ["v1", "v2_16k"])
def test_mels_are_speechbrains(case: str, folder: Path) -> None:
    saved = read_tensors(folder / f"{case}.pt")
    heard = saved["heard"].mT
    torch.testing.assert_close(speech_mel(saved["waveform"], MELS[case]), heard, atol=1e-4, rtol=1e-4)


@pytest.mark.peers
def test_the_listeners_have_as_many_parameters_as_speechbrains(folder: Path) -> None:
    with torch.device("meta"):
        listeners = Discriminators()
    number = sum(parameter.numel() for parameter in listeners.parameters())
    assert number == read_tensors(folder / "v1.pt")["listeners"]


@pytest.mark.peers
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("cond_channels: 0", "cond_channels: 8", "cond_channels: 8"),
        ("upsample_factors: [8, 8, 4]", "upsample_factors: [8, 8, 2]", "hop of the mels"),
        ("upsample_factors: [8, 8, 4]", "upsample_factors: eight", "not a list of whole numbers"),
        ("HifiganGenerator", "UnitHifiganGenerator", "UnitHifiganGenerator"),
        ("resblock_kernel_sizes: [3, 5, 7]", "resblock_kernel_sizes: [3, 5, 9]", "shape"),
    ],
)
def test_what_is_not_known_is_one_line(old: str, new: str, words: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "v3", tmp_path / "v3")
    settings = tmp_path / "v3" / "hyperparams.yaml"
    text = settings.read_text()
    assert old in text
    settings.write_text(text.replace(old, new))
    with pytest.raises(CheckpointError, match=words) as error:
        load(tmp_path / "v3")
    assert "\n" not in str(error.value)


@pytest.mark.peers
def test_missing_weights_are_one_line(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "v3", tmp_path / "v3", ignore=shutil.ignore_patterns("*.ckpt"))
    with pytest.raises(CheckpointError, match=r"has no generator\.ckpt"):
        load(tmp_path / "v3")
