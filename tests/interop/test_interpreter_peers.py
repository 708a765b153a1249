"""SpeechBrain's PIQ in folders as published: ours gives what its own inference gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from auriscope.classification import SoundMaps
from auriscope.errors import CheckpointError
from auriscope.interpretation import PIQ
from auriscope.pretrained import load
from auriscope.pretrained.foreign import read_tensors

from .conftest import run_peers


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of interpreters as published, and what SpeechBrain makes of waveforms: see peer_interpreters.py."""
    return run_peers("peer_interpreters.py", tmp_path_factory.mktemp("interpreters"))


@pytest.mark.peers
@pytest.mark.parametrize(("case", "num_shared", "halve"), [("piq-esc50", 0, True), ("piq-shared", 5, False)])
def test_interpretations_are_those_of_speechbrain(case: str, num_shared: int, halve: bool, folders: Path) -> None:
    interpreter = load(folders / case)
    assert isinstance(interpreter, PIQ)
    assert (interpreter.config.num_shared, interpreter.config.halve) == (num_shared, halve)
    classifier = load(interpreter.config.classifier)
    assert isinstance(classifier, SoundMaps)
    for told in read_tensors(folders / case / "outputs.pt"):
        with torch.no_grad():
            spectrum = classifier.spectrogram(told["waveform"])
            x = spectrum.abs()[:, None]
            found = interpreter.interpret(classifier, x)
            maps = classifier.hidden(x)
            logits = interpreter.decoded(interpreter.codebook(interpreter.adapted(maps), found.label))[:, 0]
        assert torch.equal(found.label, told["label"])
        torch.testing.assert_close(logits[..., :513], told["logits"][..., :513], rtol=1e-4, atol=1e-4)
        assert logits.shape == told["logits"].shape
        frames = told["part"].shape[1]
        torch.testing.assert_close((found.mask * x)[:, 0, :frames], told["part"], rtol=1e-4, atol=1e-4)
        assert found.mask.shape == x.shape
        # Theirs ends with the last whole step of the decoder, where ours repeats the last mask.
        sound = classifier.waveform(found.mask[:, 0, :frames] * spectrum[:, :frames], told["sound"].shape[1])
        inside = slice(1024, (frames - 4) * 186)
        torch.testing.assert_close(sound[:, inside], told["sound"][:, inside], rtol=1e-3, atol=1e-4)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("use_vq: True", "use_vq: False", "use_vq is False, and must be true"),
        ("    K: 48", "    K: 48\n    depth: 3", "the argument depth"),
        ("    K: 48", "    K: 48\n    use_adapter: False", "use_adapter"),
        ("VectorQuantizedPSI_Audio", "VectorQuantizedPSIViT_Audio", "must be a VectorQuantizedPSI_Audio"),
        ("    K: 48", "    K: 64", "has shape"),
    ],
)
def test_what_cannot_be_loaded_is_said(old: str, new: str, says: str, folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "piq-esc50", tmp_path / "copy")
    text = (folder / "hyperparams.yaml").read_text(encoding="utf-8")
    assert old in text
    (folder / "hyperparams.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CheckpointError, match=says):
        load(folder)


@pytest.mark.peers
def test_a_folder_without_the_interpreters_weights_is_not_whole(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "piq-esc50", tmp_path / "copy")
    (folder / "psi.ckpt").rename(folder / "psi_model.ckpt")
    assert isinstance(load(folder), PIQ)
    (folder / "psi_model.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"has no psi\.ckpt"):
        load(folder)
