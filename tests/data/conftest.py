"""A tiny tree of corpora, written by the tests, so that they need no real data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auriscope.data.manifest import Entry, write_manifest
from auriscope.data.synthetic import voice

RATE = 16_000


def _write(folder: Path, name: str, waveform: np.ndarray) -> float:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, RATE, subtype="PCM_16")
    return len(waveform) / RATE


def _speech(root: Path, corpus: str, rows: list[tuple[str, str, int, float]]) -> None:
    """``rows``: speaker as the manifest names it, split, number of the synthetic voice, seconds."""
    entries = []
    for number, (speaker, split, person, seconds) in enumerate(rows):
        name = f"audio/{speaker}-{number}.wav"
        _write(root / corpus, name, voice(person, number, seconds=seconds, sample_rate=RATE))
        sex = "F" if person % 2 else "M"
        entries.append(Entry(name, split, seconds, speaker=speaker, sex=sex, text="ANYTHING, REALLY"))
    write_manifest(root / corpus / "manifest.csv", entries)


def build_corpora(root: Path) -> Path:
    """Write the tree: the corpora's own names, so that their quirks apply."""
    _speech(root, "libri_251spk", [(str(speaker), "train", speaker, 3.0) for speaker in range(10, 16)])
    # Reader 10 again, prolific, in another corpus of the same readers.
    _speech(root, "libri_readers_3spk", [("10", "train", 10, 3.0) for _ in range(5)])
    _speech(root, "coffee_commands", [("unknown", "train", 20 + number, 2.5) for number in range(6)])
    evaluation = [(str(40 + speaker), "test" if speaker < 7 else "valid", 40 + speaker, 5.0) for speaker in range(12)]
    _speech(root, "libri_eval50_flac", evaluation)
    rng = np.random.default_rng(0)
    entries = []
    for split in ("train", "valid", "test"):
        seconds = _write(root / "noise", f"audio/{split}.wav", 0.1 * rng.standard_normal(2 * RATE))
        entries.append(Entry(f"audio/{split}.wav", split, seconds, label="rain"))
    write_manifest(root / "noise" / "manifest.csv", entries)
    entries = []
    for split in ("train", "valid", "test"):
        for position in range(4):
            for channel in range(2):
                direct = 100 + 10 * position
                tail = np.exp(-np.arange(3000) / 500.0) * rng.standard_normal(3000) * 0.1
                response = np.concatenate([np.zeros(direct), [0.9], tail])
                name = f"audio/{split}{position}_ch{channel}.wav"
                seconds = _write(root / "rir", name, response)
                more = {"peak_index": str(direct), "rt60_s": "0.22"}
                entries.append(Entry(name, split, seconds, label=f"house: {split}{position}", more=more))
    write_manifest(root / "rir" / "manifest.csv", entries)
    return root


@pytest.fixture(scope="session")
def written_corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests share, since what is in it depends on nothing but its key."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def corpora(written_corpora: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AURISCOPE_CORPORA", str(written_corpora))
    monkeypatch.setenv("AURISCOPE_CACHE", str(shared_cache))
    return written_corpora


@pytest.fixture
def real_corpora(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not os.environ.get("AURISCOPE_CORPORA"):
        pytest.skip("AURISCOPE_CORPORA is not set")
    monkeypatch.setenv("AURISCOPE_CACHE", str(shared_cache))
    return Path(os.environ["AURISCOPE_CORPORA"])
