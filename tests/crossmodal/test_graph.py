"""The graph of an index: near to exact, brought up to date in place, and never finding what is gone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from auriscope.crossmodal import graph as module
from auriscope.crossmodal import index as index_module
from auriscope.crossmodal.graph import GraphConfig, SoundGraph
from auriscope.crossmodal.index import FileState, IndexAbout, IndexedFile, SoundIndex
from auriscope.errors import AuriscopeError

pytest.importorskip("usearch", reason="needs usearch")

DIM = 32
ABOUT = IndexAbout("crossmodal/tiny", "ab" * 32, DIM, 2.0)


def vectors(seed: int, number: int) -> NDArray[np.float32]:
    """Vectors around a few hundred centres, as sounds lie around what they are of."""
    centres = np.random.default_rng(99).standard_normal((200, DIM))
    rng = np.random.default_rng(seed)
    found = centres[rng.integers(200, size=number)] + 0.5 * rng.standard_normal((number, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def put(index: SoundIndex, name: str, embedding: NDArray[np.float32]) -> None:
    starts = np.arange(len(embedding), dtype=np.float64)
    index.add([IndexedFile(Path(f"/{name}"), FileState(1, 1), float(len(embedding)), starts, embedding)])


def recall(graph: SoundGraph, index: SoundIndex, queries: NDArray[np.float32]) -> float:
    _, shards, rows = index.search(queries, 10)
    scores, near_shards, near_rows = graph.search(index, queries, 10)
    assert (np.diff(scores, axis=1) <= 0).all()
    pairs = [[set(zip(*each, strict=True)) for each in zip(*both, strict=True)]
             for both in ((shards, rows), (near_shards, near_rows))]  # fmt: skip
    return float(np.mean([len(one & other) / 10 for one, other in zip(*pairs, strict=True)]))


def test_the_graph_follows_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "SHARD_ROWS", 1000)
    queries = vectors(1, 50)
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        assert not SoundGraph.exists(tmp_path)
        for name in "abcd":
            put(index, name, vectors(ord(name), 1000))
        SoundGraph(tmp_path, writing=True).update(index)
        assert SoundGraph.exists(tmp_path)
        graph = SoundGraph(tmp_path)
        assert len(graph) == 4000
        assert recall(graph, index, queries) > 0.97

        # What is newer than the graph is found exactly, what is gone is not found.
        own = vectors(7, 3)
        put(index, "e", own)
        index.remove([Path("/a")])
        scores, shards, rows = graph.search(index, own, 1)
        np.testing.assert_allclose(scores[:, 0], 1.0, atol=1e-3)
        assert [str(index.place(*place).path) for place in zip(shards[:, 0], rows[:, 0], strict=True)] == ["/e"] * 3
        gone = vectors(ord("a"), 1000)[:50]
        _, shards, rows = graph.search(index, gone, 5)
        assert all(index.place(*place).path != Path("/a") for place in zip(shards.flat, rows.flat, strict=True))

        index.compact()
        put(index, "b", vectors(8, 500))
        SoundGraph(tmp_path, writing=True).update(index)
        graph = SoundGraph(tmp_path)
        assert len(graph) == index.num_windows == 2503
        assert recall(graph, index, queries) > 0.97
        assert len(list(tmp_path.glob("graph-*.usearch"))) == 1

        before = json.loads((tmp_path / "graph.json").read_text())
        SoundGraph(tmp_path, writing=True).update(index)
        assert json.loads((tmp_path / "graph.json").read_text()) == before, "there was nothing to do"


def test_building_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE", 100)
    monkeypatch.setattr(module, "_SAVE_ROWS", 300)

    class KilledError(Exception):
        pass

    def kill(done: float) -> None:
        if done > 0.75:
            raise KilledError

    with SoundIndex.writing(tmp_path, ABOUT) as index:
        put(index, "a", vectors(0, 1000))
        with pytest.raises(KilledError):
            SoundGraph(tmp_path, writing=True).update(index, on_progress=kill)
        kept = SoundGraph(tmp_path, writing=True)
        assert len(kept) == 600
        assert recall(kept, index, vectors(1, 20)) > 0.97, "what the graph has not yet is searched exactly"
        told: list[float] = []
        kept.update(index, on_progress=told.append)
        assert told == [0.25, 0.5, 0.75, 1.0]
        assert len(SoundGraph(tmp_path)) == 1000


def test_few_vectors_and_none(tmp_path: Path) -> None:
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        SoundGraph(tmp_path, writing=True).update(index)
        assert not SoundGraph.exists(tmp_path)
        scores, shards, _ = SoundGraph(tmp_path).search(index, vectors(0, 2), 3)
        assert scores.shape == (2, 3)
        assert (shards == -1).all()
        put(index, "a", vectors(0, 2))
        SoundGraph(tmp_path, writing=True).update(index)
        _, _, rows = SoundGraph(tmp_path).search(index, vectors(0, 2), 3)
        assert rows[:, 0].tolist() == [0, 1]
        assert rows[:, 2].tolist() == [-1, -1]


def test_a_graph_that_is_newer_than_what_is_known_of_the_index(tmp_path: Path) -> None:
    own = vectors(0, 40)
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        put(index, "a", own[:20])
        before = index.shards()
        put(index, "b", own[20:])
        SoundGraph(tmp_path, writing=True).update(index)
        scores, _, rows = SoundGraph(tmp_path).search(index, own, 5, shards=before)
        assert rows[:20, 0].tolist() == list(range(20))
        assert rows.max() < 20, "what came later is not known yet"
        assert (np.diff(scores[:20], axis=1) <= 0).all()


def test_a_graph_that_is_replaced_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        put(index, "a", vectors(0, 20))
        SoundGraph(tmp_path, writing=True).update(index)
        opened = SoundGraph(tmp_path)
        read = module._read_state
        told = [read(tmp_path)]
        put(index, "b", vectors(1, 20))
        assert not opened.outdated
        SoundGraph(tmp_path, writing=True).update(index)
        assert opened.outdated
        assert not (tmp_path / told[0].file).exists()
        monkeypatch.setattr(module, "_read_state", lambda folder: told.pop() if told else read(folder))
        assert len(SoundGraph(tmp_path)) == 40


def test_a_graph_is_on_the_disk_before_it_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    sync = os.fsync

    def noted(handle: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        sync(handle)

    with SoundIndex.writing(tmp_path, ABOUT) as index:
        put(index, "a", vectors(0, 20))
        monkeypatch.setattr(os, "fsync", noted)
        SoundGraph(tmp_path, writing=True).update(index)
    assert flushed[:3] == ["graph-000001.usearch", tmp_path.name, "graph.json.part"]


def test_a_damaged_graph_is_one_line(tmp_path: Path) -> None:
    with SoundIndex.writing(tmp_path, ABOUT) as index:
        put(index, "a", vectors(0, 20))
        SoundGraph(tmp_path, writing=True).update(index)
    (tmp_path / "graph-000001.usearch").write_bytes(b"nothing")
    for writing in (False, True):
        with pytest.raises(AuriscopeError, match=r"cannot be read; remove graph\.json"):
            SoundGraph(tmp_path, writing=writing)
    (tmp_path / "graph.json").write_text("{}")
    with pytest.raises(AuriscopeError, match=r"graph\.json: cannot be read"):
        SoundGraph(tmp_path)


def test_options_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        GraphConfig(connectivity=0)
