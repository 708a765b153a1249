"""Exact search among unit vectors by blocks: the obvious way, and the same answers from a quarter of the memory.

:func:`exact_search` reads every vector as it is stored. :class:`PackedVectors` keeps eight bits of every number, finds
with them all vectors that could be among the best, with a bound on what the other bits could change, and scores those
alone as they are stored: the results are the same, not nearly the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BLOCK_ROWS", "Found", "PackedVectors", "exact_search", "merged"]

BLOCK_ROWS = 1 << 16
"""How many vectors are scored at once: few enough for the scores of a batch of queries to stay small."""

_PIECE = 1 << 14
_LEVELS = 127
_LOWEST = -(1 << 30)
# What sums of 32 bits may differ by from one order of the summands to another, for vectors of unit length.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Found:
    """The best of each query: ``scores`` (queries, k) from the highest on, and ``rows`` (queries, k), int64.

    Where there are fewer than k vectors, the scores at the end are -inf and the rows -1.
    """

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]


def exact_search(
    queries: NDArray[Any], vectors: NDArray[Any], k: int, *, dead: NDArray[np.int64] | None = None
) -> Found:
    """Find the ``k`` vectors with the highest inner product with each query.

    ``queries`` (queries, dim) and ``vectors`` (rows, dim) are of any floating type; the vectors may be mapped from a
    file, and are read block by block. ``dead`` are rows that are not to be found. Of equal scores in a block either may
    come first. ``ValueError`` where ``k`` is below one or the dimensions differ.
    """
    given = _queries(queries, vectors.shape[1], k)
    best = _nothing(len(given), k)
    for start, block, gone in _blocks(vectors, dead):
        scores = given @ block.T
        scores[:, gone] = -torch.inf
        best = _better(best, scores, None, start)
    return _found(best)


class PackedVectors:
    """Vectors in eight bits a number, from which :meth:`search` finds what :func:`exact_search` finds, faster.

    Every dimension has a scale of its own, by block: of ``u = x / s`` and ``v = q s`` the product is that of x and q.
    Rounded, u becomes U, and v, at a scale of its own, V. By Cauchy and Schwarz, ``v u - V U`` is at most
    ``norm(v) max(norm(u - U)) + norm(v - V) max(norm(U))``, the maxima being those of a block: what lies below the k-th
    best score by more than that cannot be among the best. ``vectors`` (rows, dim), of unit length, stay where they are.
    """

    def __init__(self, vectors: NDArray[Any], *, dead: NDArray[np.int64] | None = None) -> None:
        self.vectors, self.dim = vectors, vectors.shape[1]
        self.num_dead = 0 if dead is None else len(dead)
        self._blocks = [_Packed.of(*each) for each in _blocks(vectors, dead)]

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: NDArray[Any], k: int) -> Found:
        """Find the ``k`` best of each query (queries, dim); as :func:`exact_search`."""
        given = _queries(queries, self.dim, k)
        best = _nothing(len(given), k)
        for block in self._blocks:
            levels, step, error = block.scores(given)
            least = best[0][:, -1]
            if bool((least == -torch.inf).any()) and k <= len(block):
                # Nothing to compare with yet: the best by eight bits are as good a beginning as any.
                places = levels.topk(k, 1).indices
                own = torch.arange(len(given))[:, None].expand_as(places)
                scores = self._scores(given, own.reshape(-1), places.reshape(-1), block).view(len(given), k)
                least = torch.maximum(least, scores.amin(1))
            # Compared as whole numbers: to turn all of them into scores would take longer than to find them.
            level = ((least - error - _ROUNDING) / step).floor().clamp(_LOWEST, -_LOWEST)
            own, places = (levels >= level.to(torch.int32)[:, None]).nonzero(as_tuple=True)
            best = self._kept(best, given, own, places, block)
        return _found(best)

    def _scores(self, queries: Tensor, own: Tensor, places: Tensor, block: _Packed) -> Tensor:
        """Scores (pairs,) of queries and places in a block, as they are stored; -inf of the dead."""
        scores = torch.empty(len(own))
        for begin in range(0, len(own), _PIECE):
            piece = slice(begin, begin + _PIECE)
            stored = torch.from_numpy(self.vectors[(places[piece] + block.start).numpy()]).float()
            scores[piece] = (stored * queries[own[piece]]).sum(1)
        if block.gone is not None:
            scores[block.gone[places]] = -torch.inf
        return scores

    def _kept(
        self, best: tuple[Tensor, Tensor], queries: Tensor, own: Tensor, places: Tensor, block: _Packed
    ) -> tuple[Tensor, Tensor]:
        """Score candidates, (pairs,) of queries and places in a block, and keep the best."""
        if len(own) == 0:
            return best
        scores = self._scores(queries, own, places, block)
        # One row a query, as long as the longest list of candidates.
        counts = torch.bincount(own, minlength=len(queries))
        order = own.argsort(stable=True)
        column = torch.arange(len(own)) - (counts.cumsum(0) - counts)[own[order]]
        table = torch.full((len(queries), int(counts.max())), -torch.inf)
        rows = torch.full_like(table, -1, dtype=torch.int64)
        table[own[order], column] = scores[order]
        rows[own[order], column] = places[order] + block.start
        return _better(best, table, rows, 0)


@dataclass(frozen=True)
class _Packed:
    """A block in eight bits (rows, dim), with what bounds the error of scores from it; ``gone`` (rows,) are dead."""

    start: int
    levels: Tensor
    scale: Tensor
    residual: float
    largest: float
    gone: Tensor | None

    @classmethod
    def of(cls, start: int, block: Tensor, gone: Tensor) -> _Packed:
        scale = block.abs().amax(0).clamp_min(1e-12) / _LEVELS
        scaled = block / scale
        rounded = scaled.round()
        residual = float((scaled - rounded).norm(dim=1).max())
        largest = float(rounded.norm(dim=1).max())
        return cls(start, rounded.to(torch.int8), scale, residual, largest, gone if bool(gone.any()) else None)

    def __len__(self) -> int:
        return len(self.levels)

    def scores(self, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (queries, rows) from eight bits, as whole numbers: how large one is, and how far off they may be.

        The latter two are (queries,). The dead have the lowest number that there is.
        """
        scaled = queries * self.scale
        step = scaled.abs().amax(1, keepdim=True).clamp_min(1e-30) / _LEVELS
        rounded = (scaled / step).round()
        off = (scaled - step * rounded).norm(dim=1)
        error = scaled.norm(dim=1) * self.residual + off * self.largest
        # The queries come first: one or a few columns would take many times as long.
        levels = torch._int_mm(rounded.to(torch.int8), self.levels.T)
        if self.gone is not None:
            levels[:, self.gone] = _LOWEST
        return levels, step[:, 0], error


def merged(found: Sequence[Found], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Merge what several searches found: the ``k`` best scores (queries, k), whose search it was, and the rows there.

    Where there are fewer, the scores at the end are -inf, and the searches and the rows -1.
    """
    scores = np.concatenate([each.scores for each in found], 1)
    rows = np.concatenate([each.rows for each in found], 1)
    source = np.repeat(np.arange(len(found)), [each.rows.shape[1] for each in found])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    scores, rows, sources = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1), source[order]
    return scores, rows, np.where(rows < 0, -1, sources)


def _queries(queries: NDArray[Any], dim: int, k: int) -> Tensor:
    given = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if given.ndim != 2 or given.shape[1] != dim:
        raise ValueError(f"queries of shape {tuple(given.shape)} do not go with vectors of {dim} dimensions")
    return given


def _blocks(vectors: NDArray[Any], dead: Iterable[int] | None) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Give where each block begins, its vectors (rows, dim) as float32, and which of them are dead (rows,)."""
    gone = np.zeros(len(vectors), dtype=bool)
    if dead is not None:
        gone[np.asarray(dead, dtype=np.int64)] = True
    for start in range(0, len(vectors), BLOCK_ROWS):
        # A copy: what is mapped from a file cannot be written, which torch wants to be able to.
        block = np.array(vectors[start : start + BLOCK_ROWS], dtype=np.float32)
        yield start, torch.from_numpy(block), torch.from_numpy(gone[start : start + BLOCK_ROWS])


def _nothing(num_queries: int, k: int) -> tuple[Tensor, Tensor]:
    return torch.full((num_queries, k), -torch.inf), torch.full((num_queries, k), -1, dtype=torch.int64)


def _better(best: tuple[Tensor, Tensor], scores: Tensor, rows: Tensor | None, start: int) -> tuple[Tensor, Tensor]:
    """Keep the best of two: those so far, and scores (queries, n) of ``rows``, or of the rows from ``start`` on."""
    k = best[0].shape[1]
    top, places = scores.topk(min(k, scores.shape[1]), 1)
    own = places + start if rows is None else rows.gather(1, places)
    scores, rows = torch.cat([best[0], top], 1), torch.cat([best[1], own], 1)
    top, places = scores.topk(k, 1)
    return top, rows.gather(1, places)


def _found(best: tuple[Tensor, Tensor]) -> Found:
    scores, rows = best
    return Found(scores.numpy(), torch.where(scores == -torch.inf, -1, rows).numpy())
