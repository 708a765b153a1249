"""REAL-M's published layout, both kinds of its tables, as a corpus of ours."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auriscope.data.manifest import read_manifest
from auriscope.errors import AuriscopeError
from auriscope.study.realm import AUDIO, TRANSCRIPTIONS, read_realm, release_realm


def plant(root: Path) -> Path:
    """A miniature of REAL-M: two newer sessions and two early collections with a worker in both."""
    generator = np.random.default_rng(0)

    def speak(session: str, name: str) -> None:
        path = root / AUDIO / session / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, generator.integers(-9000, 9000, 4_000, dtype=np.int16), 8_000)

    def write(session: str, names: list[str], rows: list[list[object]]) -> None:
        path = root / TRANSCRIPTIONS / f"{session}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([names, *rows])

    for session in ("BcArV", "Xy9Zq"):
        rows: list[list[object]] = []
        for number in range(3):
            speak(session, f"mixture_{number}_{session}")
            rows.append([number, f"First, {number}", " Second ", f"mixture_{number}_{session}.wav"])
        write(session, ["index", "sentence1", "sentence2", "filename"], rows)
    for session, workers in (("early_collection1", ("A1ZQ", "A2ZQ", "A1ZQ")), ("early_collection2", ("A2ZQ",))):
        rows = []
        for number, worker in enumerate(workers):
            speak(session, f"{session}_mixture_{number}")
            rows.append(["One", "Two", worker, f"{session}_mixture_{number}.mp3"])
        write(session, ["sentence1", "sentence2", "WorkerId", "filename"], rows)
    return root


def test_both_kinds_of_tables_are_read(tmp_path: Path) -> None:
    found = read_realm(plant(tmp_path))
    assert found.num_sessions == 4
    assert (found.missing, found.unlisted) == ([], [])
    assert len(found.recordings) == 10
    newer = [recording for recording in found.recordings if recording.session == "BcArV"]
    assert [recording.sentences for recording in newer] == [(("", f"First, {n}"), ("", "Second")) for n in range(3)]
    early = {recording.name: (recording.session, recording.contributor) for recording in found.recordings[6:]}
    assert early == {
        "early_collection1_mixture_0": ("early_collection1-1", "early_collection1-1"),
        "early_collection1_mixture_1": ("early_collection1-2", "early_collection1-2"),
        "early_collection1_mixture_2": ("early_collection1-1", "early_collection1-1"),
        "early_collection2_mixture_0": ("early_collection2-1", "early_collection1-2"),
    }


def test_real_m_becomes_a_corpus_of_our_layout_without_workers_ids(tmp_path: Path) -> None:
    root = plant(tmp_path / "REAL-M-v0.1.0")
    made, _ = release_realm(root, "0.1.0", tmp_path / "first")
    again, _ = release_realm(root, "0.1.0", tmp_path / "second")
    assert made.path == tmp_path / "first" / "real-m-0.1.0"
    assert (made.num_recordings, made.num_sessions, made.sha256) == (10, 5, again.sha256)
    rows = [json.loads(line) for line in (made.path / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        kept, rate = soundfile.read(made.path / row["path"], dtype="int16")
        given, _ = soundfile.read(next((root / AUDIO).glob(f"*/{row['recording']}.wav")), dtype="int16")
        assert rate == 8_000
        assert np.array_equal(kept, given)
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["contributor"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert len(read_manifest(made.path / "manifest.csv")) == 10
    for path in made.path.rglob("*"):
        assert not path.is_file() or b"A1ZQ" not in path.read_bytes()


def test_what_is_missing_or_unlisted_is_named(tmp_path: Path) -> None:
    root = plant(tmp_path)
    (root / AUDIO / "BcArV" / "mixture_1_BcArV.wav").rename(root / AUDIO / "BcArV" / "mixture_7_BcArV.wav")
    found = read_realm(root)
    assert found.missing == ["BcArV/mixture_1_BcArV.wav"]
    assert found.unlisted == ["BcArV/mixture_7_BcArV.wav"]
    assert len(found.recordings) == 9


def test_what_is_not_real_m_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match=r"give the folder REAL-M-v0\.1\.0"):
        read_realm(tmp_path)
    root = plant(tmp_path / "realm")
    (root / TRANSCRIPTIONS / "BcArV.csv").write_text("index,text\n0,a\n")
    with pytest.raises(AuriscopeError, match="has no column 'sentence1'"):
        read_realm(root)
    (root / TRANSCRIPTIONS / "BcArV.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AuriscopeError, match="cannot be read as a table"):
        read_realm(root)
