"""Approximate search: a graph of neighbours over an index's vectors, by usearch, the best of what it finds scored anew.

Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World
graphs" (arXiv 1603.09320). The graph holds eight bits of every number, all at one scale. It gives more candidates than
are asked for, which are then scored as the index stores them: of what eight bits confuse, the right one comes first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auriscope.crossmodal.index import Shard, SoundIndex
from auriscope.crossmodal.search import Found, exact_search, merged
from auriscope.crossmodal.storage import flush
from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import cannot_write, printable, written_aside

__all__ = ["GraphConfig", "SoundGraph", "require_usearch"]

STATE = "graph.json"
_SAVE_ROWS = 1 << 19
_PIECE = 1 << 14
_LEVELS = 127
_SHIFT = 32


@dataclass(frozen=True)
class GraphConfig:
    """How the graph is built and searched.

    ``connectivity`` neighbours of each vector (M of the paper) are chosen among ``expansion_add`` (efConstruction);
    a search follows the best ``expansion_search`` (ef), and for each result that is asked for, ``candidates`` are
    scored anew.
    """

    connectivity: int = 16
    expansion_add: int = 128
    expansion_search: int = 40
    candidates: int = 4

    def __post_init__(self) -> None:
        if min(self.connectivity, self.expansion_add, self.expansion_search, self.candidates) < 1:
            raise ValueError("connectivity, expansion_add, expansion_search and candidates must be at least 1")


@dataclass
class _State:
    """What a graph's file holds: at which scale, and how many rows of each shard have been put in."""

    file: str = ""
    scale: float = 0.0
    rows: dict[int, int] = field(default_factory=dict)


class SoundGraph:
    """The graph of an index, as its folder has it, or an empty one; :meth:`update` brings it up to date.

    ``writing`` reads it into memory; else its file is mapped, which is quick, and it can only be searched. Raises
    ``AuriscopeError`` without usearch, or where its files are damaged.
    """

    def __init__(self, folder: Path, config: GraphConfig | None = None, *, writing: bool = False) -> None:
        self.folder, self.config = folder, config or GraphConfig()
        self._state = _read_state(folder)
        self._graph = self._opened(writing)

    @property
    def outdated(self) -> bool:
        """Whether another process has written a newer one, or taken it away."""
        return _read_state(self.folder) != self._state

    def __len__(self) -> int:
        return 0 if self._graph is None else len(self._graph)

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether the index in a folder has a graph."""
        return (folder / STATE).exists()

    def update(
        self, index: SoundIndex, *, num_threads: int = 0, on_progress: Callable[[float], None] | None = None
    ) -> None:
        """Take out what is dead, put in what is new, and write it; what was written before a kill is kept.

        ``num_threads`` 0: all cores. ``on_progress`` is told the done fraction.
        """
        shards = [shard for shard in index.shards() if len(shard.vectors) > 0]
        if self._graph is None and shards:
            self._state.scale = _scale(shards)
            self._graph = self._made(index.about.dim)
        if self._graph is None:
            return
        changed = self._without_the_dead(shards)
        total = sum(len(shard.vectors) - self._state.rows.get(shard.number, 0) for shard in shards)
        done, unsaved = 0, 0
        for shard in shards:
            dead = np.zeros(len(shard.vectors), dtype=bool)
            dead[shard.dead] = True
            for start in range(self._state.rows.get(shard.number, 0), len(shard.vectors), _PIECE):
                rows = np.arange(start, min(start + _PIECE, len(shard.vectors)))
                living = rows[~dead[rows]]
                if len(living) > 0:
                    keys = (np.uint64(shard.number) << np.uint64(_SHIFT)) + living.astype(np.uint64)
                    self._graph.add(keys, self._rounded(np.asarray(shard.vectors[living])), threads=num_threads)
                self._state.rows[shard.number] = int(rows[-1]) + 1
                done, unsaved = done + len(rows), unsaved + len(rows)
                if unsaved >= _SAVE_ROWS:
                    self._save()
                    unsaved = 0
                if on_progress is not None:
                    on_progress(done / total)
        if unsaved > 0 or changed:
            self._save()

    def search(
        self, index: SoundIndex, queries: NDArray[Any], k: int, *, num_threads: int = 0, shards: Sequence[Shard] = ()
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Find ``k`` near windows of each query (queries, dim); what is not in the graph yet is searched exactly.

        Returns what :meth:`SoundIndex.search` does. ``shards`` are those of the index, where they are known.
        """
        shards = shards or index.shards()
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        found = [self._candidates(queries, k, shards, num_threads)]
        for shard in shards:
            begin = self._state.rows.get(shard.number, 0) if self._graph is not None else 0
            if begin < len(shard.vectors):
                dead = shard.dead[shard.dead >= begin] - begin
                new = exact_search(queries, shard.vectors[begin:], k, dead=dead)
                keys = np.where(new.rows < 0, -1, new.rows + begin + (shard.number << _SHIFT))
                found.append(Found(new.scores, keys))
        scores, keys, _ = merged(found, k)
        missing = k - scores.shape[1]
        if missing > 0:
            scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
            keys = np.pad(keys, ((0, 0), (0, missing)), constant_values=-1)
        shard_numbers = np.where(keys < 0, -1, keys >> _SHIFT)
        rows = np.where(keys < 0, -1, keys & ((1 << _SHIFT) - 1))
        return scores, shard_numbers, rows

    def _candidates(self, queries: NDArray[np.float32], k: int, shards: Sequence[Shard], num_threads: int) -> Found:
        """What the graph finds, scored as it is stored; the rows are keys, shard << 32 | row."""
        if self._graph is None or len(self._graph) == 0:
            return Found(np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64))
        count = min(self.config.candidates * k, len(self._graph))
        self._graph.expansion_search = max(self.config.expansion_search, count)
        # A query has a scale of its own, which changes no order.
        largest = np.abs(queries).max(1, keepdims=True).clip(1e-30)
        rounded = np.round(queries * (_LEVELS / largest)).astype(np.int8)
        matches = self._graph.search(rounded, count, threads=num_threads)
        keys = matches.keys.reshape(len(queries), -1).astype(np.int64)
        counts = np.atleast_1d(getattr(matches, "counts", keys.shape[1]))
        there = np.arange(keys.shape[1])[None] < counts[:, None]
        scores = np.full(keys.shape, -np.inf, dtype=np.float32)
        own = np.broadcast_to(np.arange(len(queries))[:, None], keys.shape)
        for shard in shards:
            # The graph may be newer than what is known of the index: rows beyond that are found when they are known.
            mine = there & (keys >> _SHIFT == shard.number) & ((keys & ((1 << _SHIFT) - 1)) < len(shard.vectors))
            rows = keys[mine] & ((1 << _SHIFT) - 1)
            if len(rows) == 0:
                continue
            stored = np.asarray(shard.vectors[rows], dtype=np.float32)
            products = np.einsum("nd,nd->n", stored, queries[own[mine]])
            products[np.isin(rows, shard.dead)] = -np.inf
            scores[mine] = products
        return Found(scores, np.where(scores == -np.inf, -1, keys))

    def _without_the_dead(self, shards: Sequence[Shard]) -> bool:
        """Take out of the graph what the index does not have any more, and say whether there was any."""
        assert self._graph is not None
        present = {shard.number: shard for shard in shards}
        gone = []
        for number, rows in list(self._state.rows.items()):
            shard = present.get(number)
            dead = np.arange(rows) if shard is None else shard.dead[shard.dead < rows]
            gone.append((np.uint64(number) << np.uint64(_SHIFT)) + dead.astype(np.uint64))
            if shard is None:
                del self._state.rows[number]
        keys = np.concatenate([np.zeros(0, np.uint64), *gone])
        keys = keys[np.asarray(self._graph.contains(keys), dtype=bool)] if len(keys) > 0 else keys
        if len(keys) > 0:
            self._graph.remove(keys)
        return len(keys) > 0

    def _rounded(self, vectors: NDArray[Any]) -> NDArray[np.int8]:
        scaled = np.round(vectors.astype(np.float32) * self._state.scale)
        return scaled.clip(-_LEVELS, _LEVELS).astype(np.int8)

    def _made(self, dim: int) -> Any:
        return require_usearch().Index(
            ndim=dim,
            metric="ip",
            dtype="i8",
            connectivity=self.config.connectivity,
            expansion_add=self.config.expansion_add,
            expansion_search=self.config.expansion_search,
        )

    def _opened(self, writing: bool) -> Any:
        while self._state.file:
            path = self.folder / self._state.file
            try:
                graph = require_usearch().Index.restore(path, view=not writing)
            except (OSError, RuntimeError, ValueError):
                graph = None
            if graph is not None:
                graph.expansion_add = self.config.expansion_add
                return graph
            before, self._state = self._state, _read_state(self.folder)
            # A writer removes the file that a newer one takes the place of, perhaps before it could be opened.
            if self._state == before:
                raise AuriscopeError(
                    f"{printable(path)}: cannot be read; remove {STATE} beside it, and index with --approximate again"
                )
        return None

    def _save(self) -> None:
        """Write the graph under a new name, then say so, then remove the old one."""
        assert self._graph is not None
        before = self._state.file
        number = int(before.split("-")[1].split(".")[0]) + 1 if before else 1
        self._state.file = f"graph-{number:06d}.usearch"
        try:
            self._graph.save(self.folder / self._state.file)
            flush(self.folder / self._state.file)
            flush(self.folder)
        except (OSError, RuntimeError) as error:
            raise cannot_write(self.folder / self._state.file, OSError(str(error))) from None
        with written_aside(self.folder / STATE) as aside:
            aside.write_text(json.dumps(asdict(self._state)) + "\n", encoding="utf-8")
        for path in self.folder.glob("graph-*.usearch"):
            if path.name != self._state.file:
                with suppress(OSError):
                    path.unlink()


def _scale(shards: Sequence[Shard]) -> float:
    """What brings the largest number of a first look to the largest level; what is larger later is cut."""
    look = np.concatenate([np.asarray(shard.vectors[: _PIECE * 4], dtype=np.float32) for shard in shards[:4]])
    return _LEVELS / max(float(np.abs(look).max()), 1e-12)


def _read_state(folder: Path) -> _State:
    path = folder / STATE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return _State(
            str(record["file"]),
            float(record["scale"]),
            {int(number): int(rows) for number, rows in record["rows"].items()},
        )
    except FileNotFoundError:
        return _State()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise AuriscopeError(
            f"{printable(path)}: cannot be read; remove it, and index with --approximate again"
        ) from None


def require_usearch() -> Any:
    """Give usearch's module ``index``; ``AuriscopeError`` where it is not installed."""
    try:
        import usearch.index
    except ImportError:
        raise AuriscopeError(
            "approximate search needs usearch; install the extra with: pip install 'auriscope[search]'"
        ) from None
    return usearch.index
