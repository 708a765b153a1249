"""Synthetic readers by espeak-ng."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from auriscope.data.prepare import espeak
from auriscope.data.prepared_speech import open_speech, read_speech
from auriscope.errors import CorpusError
from auriscope.verbs.prepare import prepare

NUMBERS = ("one", "two", "three", "four", "five")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of thirty texts, of which one is too short; and splits that so few fill."""
    texts = [f"This is sentence {NUMBERS[n // 5 % 5]} {NUMBERS[n % 5]}." for n in range(29)]
    (tmp_path / "texts.txt").write_text("\n".join(["No.", *texts]), encoding="utf-8")
    monkeypatch.setattr(espeak, "_MEASURED", 2)
    layout = espeak.LAYOUTS[0]
    monkeypatch.setitem(layout.choices, "train_set", ("4", "500"))
    return tmp_path


@pytest.mark.skipif(shutil.which(espeak.PROGRAM) is None, reason="espeak-ng is not installed")
def test_texts_are_spoken_in_several_voices_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = prepare("espeak", root, out=root / "manifest")
    assert {name: split.num_utterances for name, split in result.splits.items()} == {"train": 4, "valid": 2, "test": 2}
    spoken = read_speech(root / "manifest").utterances
    assert len({utterance.speaker for utterance in spoken}) == 8
    assert {utterance.sex for utterance in spoken} == {"F", "M"}
    assert spoken[0].text == "this is sentence one one"
    listed, stores = open_speech(root / "manifest", "train", sample_rate=16_000)
    first, second = stores[0].read(0), stores[0].read(1)
    assert 0.8 < len(first) / 16_000 < 5.0
    assert np.abs(first).max() > 0.05
    assert listed[0].speaker != listed[1].speaker
    assert len(first) != len(second)
    # What lies there already needs no program.
    monkeypatch.setattr(espeak, "PROGRAM", "no-such-program")
    again = prepare("espeak", root, out=root / "again")
    assert again.splits == result.splits
    assert read_speech(root / "again").utterances == spoken


def test_what_is_missing_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorpusError, match="there are texts for 29 utterances, and 504 are needed"):
        prepare("espeak", root, out=root / "manifest", train_set="500")
    monkeypatch.setattr(espeak, "PROGRAM", "no-such-program")
    with pytest.raises(CorpusError, match="is not installed"):
        prepare("espeak", root, out=root / "manifest")
    assert not (root / "manifest").exists()
    (root / "texts.txt").unlink()
    monkeypatch.setenv("AURISCOPE_CORPORA", str(root))
    with pytest.raises(CorpusError, match="there is no such text"):
        prepare("espeak", root, out=root / "manifest")
