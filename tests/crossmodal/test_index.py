"""The index on disk: what goes in is found, changed and removed files are gone, and a kill costs nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from auriscope.crossmodal import index as module
from auriscope.crossmodal.index import FileState, IndexAbout, IndexedFile, Place, SoundIndex
from auriscope.errors import AuriscopeError

ABOUT = IndexAbout("crossmodal/tiny", "ab" * 32, 8, 2.0)


def vectors(seed: int, windows: int) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).standard_normal((windows, 8)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def indexed(name: str, seed: int, windows: int = 1, size: int = 10) -> IndexedFile:
    starts = np.arange(windows, dtype=np.float64) * 2.0
    return IndexedFile(Path(f"/sounds/{name}"), FileState(size, 5), 2.0 * windows - 0.5, starts, vectors(seed, windows))


def found(index: SoundIndex, query: NDArray[np.float32], k: int = 1, *, keep: bool = False) -> list[Place]:
    _, shards, rows = index.search(query[None], k, keep=keep)
    return [index.place(int(shard), int(row)) for shard, row in zip(shards[0], rows[0], strict=True) if shard >= 0]


def test_windows_are_found_with_their_times(tmp_path: Path) -> None:
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        index.add([indexed("a.wav", 0, 3), indexed("b.wav", 1, 2)])
        index.add([indexed("c.wav", 2, 1)])
    with SoundIndex(tmp_path) as index:
        assert index.about == ABOUT
        assert (index.num_files, index.num_windows, index.duration_seconds) == (3, 6, 5.5 + 3.5 + 1.5)
        for keep in (False, True):
            assert found(index, vectors(0, 3)[1], keep=keep) == [Place(Path("/sounds/a.wav"), 2.0, 4.0)]
            assert found(index, vectors(0, 3)[2], keep=keep) == [Place(Path("/sounds/a.wav"), 4.0, 5.5)]
            assert found(index, vectors(2, 1)[0], keep=keep) == [Place(Path("/sounds/c.wav"), 0.0, 1.5)]
            assert len(found(index, vectors(2, 1)[0], 9, keep=keep)) == 6


def test_changed_and_removed_files_are_gone_and_space_is_won_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_ROWS", 4)
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        for number in range(6):
            index.add([indexed(f"{number}.wav", number, 2)])
        assert [len(shard.vectors) for shard in index.shards()] == [4, 4, 4]
        assert found(index, vectors(1, 2)[0], keep=True)[0].path.name == "1.wav"
        index.add([indexed("1.wav", 90, 3, size=11)])
        index.remove([Path("/sounds/0.wav"), Path("/sounds/never.wav")])
        assert index.num_windows == 5 * 2 + 1
        for keep in (False, True):
            assert found(index, vectors(1, 2)[0], keep=keep)[0] != Place(Path("/sounds/1.wav"), 0.0, 2.0)
            assert found(index, vectors(90, 3)[2], keep=keep)[0] == Place(Path("/sounds/1.wav"), 4.0, 5.5)
        assert len((tmp_path / "vectors/000001.f16").read_bytes()) == 4 * 8 * 2
        index.remove([Path("/sounds/2.wav")])
        before = {path: state.size for path, state in index.states().items()}
        index.compact()
        assert not (tmp_path / "vectors/000001.f16").exists(), "all of it was dead"
        assert {path: state.size for path, state in index.states().items()} == before
        index.add([indexed("9.wav", 9, 1)])
        index.remove([Path("/sounds/1.wav")])
        index.compact()
        assert sum(len(shard.dead) for shard in index.shards()) <= 2
        for number in (3, 4, 5, 9):
            assert found(index, vectors(number, 2 if number < 9 else 1)[0])[0].path.name == f"{number}.wav"


def test_a_reader_sees_what_is_committed(tmp_path: Path) -> None:
    with SoundIndex.writing(tmp_path, ABOUT) as writer:
        writer.add([indexed("a.wav", 0)])
        with SoundIndex(tmp_path) as reader:
            found(reader, vectors(0, 1)[0], keep=True)
            writer.add([indexed("b.wav", 1)])
            assert found(reader, vectors(1, 1)[0], keep=True)[0].path.name == "b.wav"


def test_a_batch_that_fails_changes_nothing(tmp_path: Path) -> None:
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        index.add([indexed("a.wav", 0)])
        with pytest.raises(AuriscopeError, match="cannot be changed"):
            index.add([indexed("b.wav", 1), indexed("b.wav", 2)])
        assert index.num_files == index.num_windows == 1
        index.add([indexed("b.wav", 1)])
        assert found(index, vectors(1, 1)[0])[0].path.name == "b.wav"


def test_a_writer_killed_before_its_commit_leaves_no_trace(tmp_path: Path) -> None:
    """A process dies by its own hand between the vectors and the commit."""
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        index.add([indexed("a.wav", 0)])
    code = f"""
import os, signal
from pathlib import Path
import numpy as np
from auriscope.crossmodal.index import FileState, IndexAbout, IndexedFile, SoundIndex
class Killed(SoundIndex):
    def _appended(self, vectors):
        super()._appended(vectors)
        os.kill(os.getpid(), signal.SIGKILL)
with Killed.writing(Path({str(tmp_path)!r}), IndexAbout("crossmodal/tiny", "ab" * 32, 8, 2.0)) as index:
    index.add([IndexedFile(Path("/sounds/b.wav"), FileState(1, 1), 2.0, np.zeros(1), np.ones((1, 8)))])
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert killed.returncode == -9
    assert len((tmp_path / "vectors/000001.f16").read_bytes()) == 2 * 8 * 2
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        assert index.num_files == index.num_windows == 1
        index.add([indexed("c.wav", 3)])
        assert found(index, vectors(3, 1)[0])[0].path.name == "c.wav"
        assert len((tmp_path / "vectors/000001.f16").read_bytes()) == 2 * 8 * 2


def test_unreadable_files_are_remembered(tmp_path: Path) -> None:
    state = FileState(3, 4, "is not audio")
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        index.add([indexed("b.wav", 1)])
        index.note_unreadable([(Path("/sounds/bad.wav"), state), (Path("/sounds/b.wav"), state)])
        assert index.states() == {Path("/sounds/bad.wav"): state, Path("/sounds/b.wav"): state}
        assert index.num_files == index.num_windows == 0


def test_names_that_are_no_characters(tmp_path: Path) -> None:
    odd = Path("/sounds/\udcff\n.wav")
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        index.add([IndexedFile(odd, FileState(1, 1), 1.0, np.zeros(1), vectors(0, 1))])
        assert found(index, vectors(0, 1)[0]) == [Place(odd, 0.0, 1.0)]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        SoundIndex.writing(tmp_path, ABOUT),
        pytest.raises(AuriscopeError, match="another process is writing"),
        SoundIndex.writing(tmp_path, ABOUT),
    ):
        pass


def test_an_index_of_another_model_is_refused_with_both_names(tmp_path: Path) -> None:
    with SoundIndex.writing(tmp_path, ABOUT):
        pass
    other = IndexAbout("crossmodal/other", "cd" * 32, 16, 3.0)
    with (
        pytest.raises(AuriscopeError, match=r"made with crossmodal/tiny, not with crossmodal/other"),
        SoundIndex.writing(tmp_path, other),
    ):
        pass
    with SoundIndex(tmp_path) as index, pytest.raises(AuriscopeError, match=r"other weights .*abababab, not cdcdcdcd"):
        index.require("crossmodal/tiny", "cd" * 32)


def test_what_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match="is no index; make one first"):
        SoundIndex(tmp_path / "missing")
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("dear")
    with pytest.raises(AuriscopeError, match="holds other things"), SoundIndex.writing(full, ABOUT):
        pass
    index = tmp_path / "index"
    with SoundIndex.writing(index, ABOUT) as writer:
        writer.add([indexed("a.wav", 0)])
    whole = (index / "index.json").read_text()
    for text in ("{", "[]", "{}", whole.replace('"dim": 8', '"dim": "x"')):
        (index / "index.json").write_text(text)
        with pytest.raises(AuriscopeError, match=r"index\.json"):
            SoundIndex(index)
    (index / "index.json").write_text(whole.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(AuriscopeError, match="format 2"):
        SoundIndex(index)
    (index / "index.json").write_text(whole)
    (index / "vectors/000001.f16").write_bytes(b"12")
    with SoundIndex(index) as damaged, pytest.raises(AuriscopeError, match="damaged"):
        damaged.shards()
    (index / "files.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(AuriscopeError, match="cannot be read"):
        SoundIndex(index)


def test_the_empty_index(tmp_path: Path) -> None:
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        index.add([])
        scores, shards, rows = index.search(vectors(0, 2), 3)
        assert scores.shape == shards.shape == rows.shape == (2, 3)
        assert (shards == -1).all()
    assert sqlite3.connect(tmp_path / "files.sqlite").execute("SELECT COUNT(*) FROM files").fetchone() == (0,)
