"""Exact search: the obvious way, the packed way and numpy find the same, whatever the vectors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from auriscope.crossmodal import search
from auriscope.crossmodal.search import Found, PackedVectors, exact_search, merged

Array = NDArray[np.float16]


def unit(rng: np.random.Generator, rows: int, dim: int) -> NDArray[np.float32]:
    vectors = rng.standard_normal((rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def reference(queries: NDArray[np.float32], vectors: Array, k: int, dead: NDArray[np.int64]) -> Found:
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    scores[:, dead] = -np.inf
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Found(np.take_along_axis(scores, rows, 1).astype(np.float32), rows)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_ROWS", 500)


def kinds() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    scattered = unit(rng, 3000, 32)
    # A dimension that is far larger than all others, as embeddings of networks have them.
    outlying = (scattered + np.eye(32, dtype=np.float32)[3] * 4.0) / 5.0
    # So close to each other that eight bits cannot tell them apart.
    crowded = scattered[:1] + 1e-3 * scattered
    silent = scattered.copy()
    silent[::7] = 0.0
    found = {"scattered": scattered, "outlying": outlying, "crowded": crowded, "few": scattered[:3], "silent": silent}
    return {name: vectors.astype(np.float16) for name, vectors in found.items()}


@pytest.mark.parametrize("name", sorted(kinds()))
@pytest.mark.parametrize("gone", [False, True])
def test_every_way_finds_the_same(name: str, gone: bool) -> None:
    vectors = kinds()[name]
    rng = np.random.default_rng(1)
    queries = np.concatenate([unit(rng, 5, 32), vectors[:2].astype(np.float32)])
    dead = np.arange(0, len(vectors), 3) if gone else np.zeros(0, dtype=np.int64)
    k = 10
    expected = reference(queries, vectors, k, dead)
    there = expected.scores > -np.inf
    for found in (exact_search(queries, vectors, k, dead=dead), PackedVectors(vectors, dead=dead).search(queries, k)):
        assert found.rows.shape == found.scores.shape == (len(queries), k)
        np.testing.assert_allclose(found.scores[:, : there.shape[1]], expected.scores, atol=2e-6)
        assert (found.rows[found.scores == -np.inf] == -1).all()
        # Of scores that only rounding tells apart, either may come first: the rows must have their scores.
        own = (queries[:, None] * vectors[found.rows].astype(np.float32)).sum(-1)
        np.testing.assert_allclose(own[found.rows >= 0], found.scores[found.rows >= 0], atol=2e-6)
        assert not set(found.rows[found.rows >= 0].ravel()) & set(dead)
        for row in found.rows:
            assert len(set(row[row >= 0])) == (row >= 0).sum(), "a row is found once"


def test_packing_looks_at_few_vectors_as_they_are_stored() -> None:
    """The bound is what makes packing worth it: nearly all vectors are ruled out by eight bits."""

    class Counted(np.ndarray):
        seen = 0

        def __getitem__(self, key: object) -> object:
            if isinstance(key, np.ndarray):
                Counted.seen += len(key)
            return np.asarray(self)[key]  # type: ignore[index]

    rng = np.random.default_rng(0)
    vectors = unit(rng, 20_000, 64).astype(np.float16)
    packed = PackedVectors(vectors.view(Counted))
    packed.search(unit(rng, 4, 64), 10)
    assert 40 <= Counted.seen < 4 * 0.02 * len(vectors)


def test_what_several_searches_found_is_merged() -> None:
    first = Found(np.array([[0.9, 0.2]], np.float32), np.array([[4, 7]]))
    second = Found(np.array([[0.5, -np.inf]], np.float32), np.array([[1, -1]]))
    scores, rows, sources = merged([first, second], 3)
    assert scores[0].tolist() == pytest.approx([0.9, 0.5, 0.2])
    assert rows.tolist() == [[4, 1, 7]]
    assert sources.tolist() == [[0, 1, 0]]
    assert merged([first, second], 4)[2].tolist() == [[0, 1, 0, -1]]


def test_wrong_arguments_are_refused() -> None:
    vectors = np.zeros((2, 4), np.float16)
    with pytest.raises(ValueError, match="at least 1"):
        exact_search(np.zeros((1, 4)), vectors, 0)
    with pytest.raises(ValueError, match="4 dimensions"):
        PackedVectors(vectors).search(np.zeros((1, 3)), 1)
