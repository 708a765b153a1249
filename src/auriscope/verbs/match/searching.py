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


class Searcher:
    """Indices that one model made, opened as they are now, and that model.

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
            self._shards: list[list[Shard]] = [index.shards() for index in self._indices]
            self.num_windows = sum(index.num_windows for index in self._indices)
            """How many windows can be found."""
            if self.num_windows == 0:
                shown = ", ".join(printable(folder) for folder in folders)
                raise AuriscopeError(f"{shown}: holds no sound; put some in: auriscope index FOLDER --out {shown}")
            self._reader = SoundReader(
                self._indices[0].about.model if model is None else model, device=device, offline=offline
            )
            self.address = self._reader.address
            """The model's address."""
            for index in self._indices:
                index.require(self.address, self._reader.weights_sha256)
            self._graphs = [
                None if exact or not SoundGraph.exists(index.folder) else SoundGraph(index.folder)
                for index in self._indices
            ]
            self.approximate = any(graph is not None for graph in self._graphs)
            """Whether a graph is searched."""
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
        asked = top
        most = min(self.num_windows, max(_MOST_WINDOWS, top))
        while True:
            found = self._nearest(query, min(asked, most))
            if every_window:
                return found
            best: dict[str, Match] = {}
            for match in found:
                best.setdefault(match.path, match)
            if len(best) >= top or asked >= most:
                return list(best.values())[:top]
            asked *= 4

    def _nearest(self, query: FloatArray, k: int) -> list[Match]:
        found = []
        for index, graph, shards in zip(self._indices, self._graphs, self._shards, strict=True):
            if graph is None:
                scores, numbers, rows = index.search(query[None], k, keep=self._keep, shards=shards)
            else:
                scores, numbers, rows = graph.search(index, query[None], k, shards=shards)
            for score, number, row in zip(scores[0].tolist(), numbers[0].tolist(), rows[0].tolist(), strict=True):
                if number >= 0:
                    place = index.place(number, row)
                    found.append(
                        Match(
                            os.fspath(place.path),
                            place.start_seconds,
                            place.end_seconds,
                            round(min(1.0, max(-1.0, score)), 6),
                        )
                    )
        found.sort(key=lambda match: -match.score)
        return found[:k]
