"""The index on disk: what goes in is found, changed and removed files are gone, and a kill costs nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from auriscope.crossmodal import index as module
from auriscope.crossmodal import storage
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
    places = [index.place(int(shard), int(row)) for shard, row in zip(shards[0], rows[0], strict=True) if shard >= 0]
    return [place for place in places if place is not None]


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
        before = {path: state.size for path, state in index.states()}
        index.compact()
        assert not (tmp_path / "vectors/000001.f16").exists(), "all of it was dead"
        assert {path: state.size for path, state in index.states()} == before
        index.add([indexed("9.wav", 9, 1)])
        index.remove([Path("/sounds/1.wav")])
        index.compact()
        assert sum(len(shard.dead) for shard in index.shards()) <= 2
        for number in (3, 4, 5, 9):
            assert found(index, vectors(number, 2 if number < 9 else 1)[0])[0].path.name == f"{number}.wav"


def test_a_reader_sees_what_is_committed(tmp_path: Path) -> None:
    """Also what was changed, taken out and moved: nothing that was found before is found in its place."""
    with SoundIndex.writing(tmp_path, ABOUT) as writer:
        writer.add([indexed("a.wav", 0), indexed("b.wav", 1), indexed("c.wav", 2)])
        with SoundIndex(tmp_path) as reader:

            def nearest(seed: int) -> tuple[str, float]:
                """Of both ways to search, which have to agree."""
                names, scores = set(), set()
                for keep in (False, True):
                    score, shards, rows = reader.search(vectors(seed, 1), 1, keep=keep)
                    place = reader.place(int(shards[0, 0]), int(rows[0, 0]))
                    assert place is not None
                    names.add(place.path.name)
                    scores.add(round(float(score[0, 0]), 2))
                assert len(names) == len(scores) == 1
                return names.pop(), scores.pop()

            before = reader.version
            assert [nearest(seed) for seed in range(3)] == [("a.wav", 1.0), ("b.wav", 1.0), ("c.wav", 1.0)]
            assert reader.version == before
            writer.add([indexed("d.wav", 3)])
            assert reader.version != before
            assert nearest(3) == ("d.wav", 1.0)
            writer.remove([Path("/sounds/a.wav")])
            assert nearest(0) != ("a.wav", 1.0)
            assert reader.num_windows == 3
            writer.add([indexed("b.wav", 7)])
            assert nearest(7) == ("b.wav", 1.0)
            assert nearest(1)[1] < 1.0
            writer.remove([Path("/sounds/c.wav")])
            old = reader.shards()
            writer.compact()
            assert [shard.number for shard in reader.shards()] != [shard.number for shard in old]
            assert (nearest(3), nearest(7)) == (("d.wav", 1.0), ("b.wav", 1.0))
            assert nearest(2)[1] < 1.0
            assert reader.place(old[0].number, 0) is None, "what was known before is known not to be there"


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
    def _appended(self, vectors, tail):
        super()._appended(vectors, tail)
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
        assert dict(index.states()) == {Path("/sounds/bad.wav"): state, Path("/sounds/b.wav"): state}
        assert index.num_files == index.num_windows == 0


def test_what_lies_below_a_folder(tmp_path: Path) -> None:
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        names = ["a.wav", "a/b.wav", "a/b/c.wav", "a/\udcff.wav", "a0.wav", "a-b/c.wav", "b.wav"]
        index.add([indexed(name, number) for number, name in enumerate(names)])
        index.note_unreadable([(Path("/sounds/a/bad.wav"), FileState(1, 2, "is not audio"))])

        def below(folder: str) -> list[str]:
            return sorted(str(path.relative_to("/sounds")) for path, _ in index.states(below=Path(folder)))

        assert below("/sounds/a") == ["a/b.wav", "a/b/c.wav", "a/bad.wav", "a/\udcff.wav"]
        assert below("/sounds/a/b") == ["a/b/c.wav"]
        assert below("/") == below("/sounds") == sorted([*names, "a/bad.wav"])
        assert below("/sound") == below("/sounds/a/b.wav") == []
        assert index.state(Path("/sounds/a/bad.wav")) == FileState(1, 2, "is not audio")
        assert index.state(Path("/sounds/a")) is None


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
    with pytest.raises(AuriscopeError, match="is damaged"):
        SoundIndex(index)


def test_a_database_that_is_lost_is_never_made_anew(tmp_path: Path) -> None:
    with SoundIndex.writing(tmp_path, ABOUT) as writer:
        writer.add([indexed("a.wav", 0)])
    about, database, held = tmp_path / "index.json", tmp_path / "files.sqlite", tmp_path / "vectors/000001.f16"
    whole, vectors_before = about.read_text(), held.read_bytes()
    about.unlink()
    with (
        pytest.raises(AuriscopeError, match=r"has recordings, but no index\.json"),
        SoundIndex.writing(tmp_path, ABOUT),
    ):
        pass
    about.write_text(whole)
    database.unlink()
    for opened in (SoundIndex, lambda folder: SoundIndex.writing(folder, ABOUT)):
        with pytest.raises(AuriscopeError, match=r"files\.sqlite is missing"), opened(tmp_path):
            pass
        assert not database.exists()
    database.touch()
    with (
        SoundIndex(tmp_path) as index,
        pytest.raises(AuriscopeError, match=r"files\.sqlite is damaged \(no such table"),
    ):
        index.shards()
    database.unlink()
    about.unlink()
    with pytest.raises(AuriscopeError, match="vectors that its files"), SoundIndex.writing(tmp_path, ABOUT):
        pass
    assert held.read_bytes() == vectors_before


def test_the_first_of_all_batches_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves behind is not taken for the vectors of a database that was lost."""
    with SoundIndex.writing(tmp_path, ABOUT) as index, monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index.add([indexed("a.wav", 0)])
    assert (tmp_path / "vectors/000001.f16").exists()
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        index.add([indexed("b.wav", 1)])
        assert found(index, vectors(1, 1)[0])[0].path.name == "b.wav"


def test_what_a_killed_writer_left_half_done_is_undone_by_a_reader(tmp_path: Path) -> None:
    """Copied in the middle of a transaction, when some of it is on the disk already."""
    with SoundIndex.writing(tmp_path / "index", ABOUT) as writer:
        writer.add([indexed(f"{number}.wav", number) for number in range(300)])
    database = sqlite3.connect(tmp_path / "index/files.sqlite", isolation_level=None)
    database.execute("PRAGMA cache_size = 1")
    database.execute("BEGIN IMMEDIATE")
    database.execute("UPDATE files SET size = 99")
    shutil.copytree(tmp_path / "index", tmp_path / "copy")
    database.close()
    assert (tmp_path / "copy/files.sqlite").read_bytes() != (tmp_path / "index/files.sqlite").read_bytes()
    with SoundIndex(tmp_path / "copy") as reader:
        assert {state.size for _, state in reader.states()} == {10}


def test_busy_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_WAIT_SECONDS", 0.0)
    with SoundIndex.writing(tmp_path, ABOUT) as writer:
        writer.add([indexed("a.wav", 0)])
    with SoundIndex(tmp_path) as reader, SoundIndex.writing(tmp_path, ABOUT) as writer:
        other = sqlite3.connect(tmp_path / "files.sqlite", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        attempts: list[Callable[[], object]] = [
            lambda: SoundIndex(tmp_path),
            lambda: reader.num_windows,
            lambda: reader.version,
            lambda: list(reader.states()),
            lambda: reader.state(Path("/sounds/a.wav")),
            reader.shards,
            lambda: reader.place(1, 0),
            lambda: writer.add([indexed("b.wav", 1)]),
            lambda: writer.remove([Path("/sounds/a.wav")]),
            writer.compact,
        ]
        for attempt in attempts:
            with pytest.raises(AuriscopeError, match=r"another process is writing at this moment; .*try again"):
                attempt()
        other.close()
        assert found(reader, vectors(0, 1)[0])[0].path.name == "a.wav"


def test_damage_is_one_line(tmp_path: Path) -> None:
    with SoundIndex.writing(tmp_path, ABOUT) as writer:
        writer.add([indexed(f"{number}.wav", number) for number in range(300)])
    path = tmp_path / "files.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with SoundIndex(tmp_path) as index:
        attempts: list[Callable[[], object]] = [
            lambda: index.num_files, lambda: list(index.states()), index.shards, lambda: index.place(1, 0)
        ]  # fmt: skip
        for attempt in attempts:
            with pytest.raises(AuriscopeError, match=r"files\.sqlite is damaged"):
                attempt()
    with pytest.raises(AuriscopeError, match=r"files\.sqlite is damaged"), SoundIndex.writing(tmp_path, ABOUT):
        pass
    (tmp_path / "writing.lock").unlink()
    (tmp_path / "writing.lock").mkdir()
    with (
        pytest.raises(AuriscopeError, match=r"writing\.lock is missing, or may not"),
        SoundIndex.writing(tmp_path, ABOUT),
    ):
        pass


def test_compaction_goes_by_parts_and_may_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE_ROWS", 2)
    with SoundIndex.writing(tmp_path, ABOUT) as index, SoundIndex(tmp_path) as reader:
        index.add([indexed(f"{number}.wav", number) for number in range(20)])
        index.remove([Path(f"/sounds/{number}.wav") for number in range(12)])
        committed, append = [], index._appended

        def stopped(*given: Any) -> tuple[int, int]:
            committed.append(reader.num_windows)
            if len(committed) == 3:
                raise KeyboardInterrupt
            return append(*given)

        with monkeypatch.context() as patched:
            patched.setattr(index, "_appended", stopped)
            with pytest.raises(KeyboardInterrupt):
                index.compact()
        assert committed == [8, 8, 8]
        assert [len(shard.vectors) - len(shard.dead) for shard in reader.shards()] == [4, 4]
        for _ in range(2):
            for number in range(12, 20):
                assert found(reader, vectors(number, 1)[0])[0].path.name == f"{number}.wav"
            index.compact()
        assert [(len(shard.vectors), len(shard.dead)) for shard in reader.shards()] == [(8, 0)]
        assert [path.name for path in (tmp_path / "vectors").iterdir()] == ["000002.f16"]


def test_a_new_file_of_vectors_is_on_the_disk_before_it_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    sync = os.fsync

    def noted(handle: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        sync(handle)

    with SoundIndex.writing(tmp_path, ABOUT) as index:
        monkeypatch.setattr(os, "fsync", noted)
        index.add([indexed("a.wav", 0)])
        assert flushed == ["000001.f16", "vectors"]
        index.add([indexed("b.wav", 0)])
        assert flushed == ["000001.f16", "vectors", "000001.f16"]


def test_the_empty_index(tmp_path: Path) -> None:
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        index.add([])
        scores, shards, rows = index.search(vectors(0, 2), 3)
        assert scores.shape == shards.shape == rows.shape == (2, 3)
        assert (shards == -1).all()
    assert sqlite3.connect(tmp_path / "files.sqlite").execute("SELECT COUNT(*) FROM files").fetchone() == (0,)
