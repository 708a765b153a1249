"""Indices opened for searching, with the model that made them: for one query, or for as many as come."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from auriscope.crossmodal.clap import CrossModal
from auriscope.crossmodal.graph import SoundGraph
from auriscope.crossmodal.index import Shard, SoundIndex
from auriscope.errors import AudioFileError, AuriscopeError
from auriscope.signal.outputs import printable
from auriscope.verbs.batch import StrPath
from auriscope.verbs.match.results import Match
from auriscope.verbs.sounds import SoundReader

FloatArray = NDArray[np.float32]

_MOST_WINDOWS = 4096
_TRIES = 3


class Searcher:
    """Indices that one model made, and that model; what is put into the indices or taken out meanwhile is seen.

    ``keep`` packs vectors into memory, a byte a number, for many exact searches. Where an index has a graph, that is
    searched, unless ``exact``. Other arguments and errors are those of :func:`auriscope.verbs.match.match`.
    """

    def __init__(
        self,
        folders: Sequence[StrPath],
        *,
        model: StrPath | CrossModal | None = None,
        device: Any = "cpu",
        offline: bool | None = None,
        exact: bool = False,
        keep: bool = False,
    ) -> None:
        if not folders:
            raise AuriscopeError("there is no index to search; name one")
        self._keep = keep
        self._indices: list[SoundIndex] = []
        try:
            for folder in folders:
                self._indices.append(SoundIndex(Path(folder)))
            self.num_windows = sum(index.num_windows for index in self._indices)
            """How many windows can be found."""
            if self.num_windows == 0:
                shown = ", ".join(printable(folder) for folder in folders)
                raise AuriscopeError(f"{shown}: holds no sound; put some in: auriscope index FOLDER --out {shown}")
            self._reader = SoundReader(
                self._indices[0].model_address if model is None else model, device=device, offline=offline
            )
            self.address = self._reader.address
            """The model's address."""
            for index in self._indices:
                index.require(self.address, self._reader.sha256)
            self._exact = exact
            self._versions = [-1] * len(self._indices)
            self._shards: list[list[Shard]] = [[] for _ in self._indices]
            self._graphs: list[SoundGraph | None] = [None] * len(self._indices)
            self._bring_up_to_date()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the indices."""
        for index in self._indices:
            index.close()

    @property
    def approximate(self) -> bool:
        """Whether a graph is searched."""
        return any(graph is not None for graph in self._graphs)

    def _bring_up_to_date(self) -> bool:
        """Look at what has changed since the last time, and say whether anything has."""
        changed = False
        for number, index in enumerate(self._indices):
            version = index.version
            if version != self._versions[number]:
                self._versions[number], self._shards[number], changed = version, index.shards(), True
            graph = self._graphs[number]
            if not self._exact and (SoundGraph.exists(index.folder) if graph is None else graph.outdated):
                self._graphs[number] = SoundGraph(index.folder) if SoundGraph.exists(index.folder) else None
        if changed:
            self.num_windows = sum(index.num_windows for index in self._indices)
        return changed

    def embedded(self, query: str | Path) -> FloatArray:
        """Embed a query, (dim,): words that are a ``str``, or all of the recording at a ``Path``."""
        if isinstance(query, str):
            return self._reader.read_text(query)
        sound = self._reader.read(query)
        if sound.silent.all():
            raise AudioFileError(f"{printable(query)}: is silent: there is nothing in it to look for")
        return sound.whole()

    def search(self, query: FloatArray, top: int, *, every_window: bool = False) -> list[Match]:
        """Find the ``top`` recordings that are nearest to an embedding (dim,), each where it is nearest.

        With ``every_window``, the nearest windows, of which several may be of one recording. Recordings are looked for
        among the nearest few thousand windows: a few very long ones, all alike, may leave less than ``top``.
        """
        for _ in range(_TRIES):
            self._bring_up_to_date()
            found, missed = self._found(query, top, every_window)
            if not missed:
                break
        return found

    def _found(self, query: FloatArray, top: int, every_window: bool) -> tuple[list[Match], bool]:
        """What :meth:`search` gives, and whether something was taken out of an index while it was looked for."""
        most = min(self.num_windows, max(_MOST_WINDOWS, top))
        # To look at every window once is long; to keep the best few thousand of them takes no longer than to keep ten.
        few = every_window or all(graph is not None for graph in self._graphs)
        asked = min(most, top) if few else most
        while asked > 0:
            best: dict[str | int, Match] = {}
            missed = False
            for score, index, shard, row in self._nearest(query, asked):
                place = index.place(shard, row)
                if place is None:
                    missed = True
                    continue
                cosine = round(min(1.0, max(-1.0, score)), 6)
                match = Match(os.fspath(place.path), place.start_seconds, place.end_seconds, cosine)
                best.setdefault(len(best) if every_window else match.path, match)
                if len(best) == top:
                    break
            if len(best) == top or every_window or asked == most:
                return list(best.values()), missed
            asked = min(most, asked * 4)
        return [], False

    def _nearest(self, query: FloatArray, k: int) -> list[tuple[float, SoundIndex, int, int]]:
        """The ``k`` nearest windows: scores from the highest on, indices, shards and rows."""
        found = []
        for index, graph, shards in zip(self._indices, self._graphs, self._shards, strict=True):
            if graph is None:
                scores, numbers, rows = index.search(query[None], k, keep=self._keep, shards=shards)
            else:
                scores, numbers, rows = graph.search(index, query[None], k, shards=shards)
            for score, number, row in zip(scores[0].tolist(), numbers[0].tolist(), rows[0].tolist(), strict=True):
                if number >= 0:
                    found.append((score, index, number, row))
        found.sort(key=lambda each: -each[0])
        return found[:k]
