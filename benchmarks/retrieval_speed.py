"""How fast an index of a million windows is searched, exactly and approximately, and how much the latter finds.

    python benchmarks/retrieval_speed.py [--rows 1000000] [--dim 512] [--threads 2] [--folder FOLDER]

Vectors of unit length are drawn around 5000 centres on a surface of 24 dimensions, with a little noise in all of
``--dim``: embeddings of networks lie so. Queries are drawn alike ("sounds"), or moved away from all vectors in one
direction, by as much as they are long, as texts lie beside sounds ("texts"). ``--kind even`` draws vectors evenly in
all dimensions, where every neighbour is nearly as far as the next: the hardest case, which no embedding is.

The index is written to ``--folder``, and taken from there again, graph included. Queries per second are those of the
best of ``--repeats``, because other work on the machine only takes away: by the clock, and by the processor's time,
which is what one core would do that does nothing else. Beside: torch's product of float32 matrices in
memory, with its ``topk``. Recall is how many of the ten nearest windows are found.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.crossmodal.graph import GraphConfig, SoundGraph
from auriscope.crossmodal.index import FileState, IndexAbout, IndexedFile, Shard, SoundIndex

CENTRES, SURFACE, SPREAD, NOISE = 5000, 24, 0.5, 0.1
TOP, RECALLED = 10, 256
FloatArray = NDArray[np.float32]
Search = Callable[[FloatArray], NDArray[np.int64]]


def main() -> None:
    """Make the index, search it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--kind", choices=("clusters", "even"), default="clusters")
    parser.add_argument("--windows-a-file", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--no-graph", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as aside:
        folder = options.folder or Path(aside)
        drawn = Drawn(options.kind, options.dim)
        about = IndexAbout(f"benchmark/{options.kind}", options.kind.ljust(64, "0"), options.dim, 10.0)
        with SoundIndex.writing(folder, about) as index:
            print(f"{options.rows} x {options.dim}, {options.kind}, {options.threads} threads")
            print(f"vectors {filled(index, drawn, options.rows, options.windows_a_file)}", flush=True)
            if not options.no_graph:
                print(f"graph {built(folder, index, options.threads)}", flush=True)
        files = -(-options.rows // options.windows_a_file)
        size = sum(path.stat().st_size for path in folder.glob("files.sqlite*"))
        print(f"database of {size / files:.0f} bytes a file of {options.windows_a_file} windows", flush=True)
        with SoundIndex(folder) as index:
            measure(index, drawn, options)


class Drawn:
    """Vectors (number, dim) of unit length of one kind, and queries to them."""

    def __init__(self, kind: str, dim: int) -> None:
        rng = np.random.default_rng(0)
        self.kind, self.dim = kind, dim
        self._centres = rng.standard_normal((CENTRES, SURFACE)).astype(np.float32)
        self._surface = (rng.standard_normal((SURFACE, dim)) / np.sqrt(dim)).astype(np.float32)
        self._gap = unit(rng.standard_normal((1, dim)).astype(np.float32))

    def draw(self, seed: int, number: int) -> FloatArray:
        """Give vectors, always the same for a seed."""
        rng = np.random.default_rng([1, seed])
        noise = rng.standard_normal((number, self.dim), dtype=np.float32)
        if self.kind == "even":
            return unit(noise)
        places = self._centres[rng.integers(CENTRES, size=number)]
        places = places + np.float32(SPREAD) * rng.standard_normal(places.shape, dtype=np.float32)
        return unit(places @ self._surface + np.float32(NOISE * np.sqrt(SURFACE / self.dim)) * noise)

    def queries(self, what: str, number: int) -> FloatArray:
        """Give queries, "sounds" or "texts"."""
        found = self.draw(1_000_000, number)
        return unit(found + self._gap) if what == "texts" else found


def unit(vectors: FloatArray) -> FloatArray:
    """Vectors of unit length in the same directions."""
    found: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def filled(index: SoundIndex, drawn: Drawn, rows: int, a_file: int) -> str:
    """Write vectors until there are so many, and say how fast that was."""
    began, before = time.perf_counter(), index.num_windows
    for start in range(before, rows, a_file):
        embedding = drawn.draw(start // a_file, min(a_file, rows - start))
        starts = 10.0 * np.arange(len(embedding), dtype=np.float64)
        path = Path(f"/benchmark/{start:012d}.wav")
        index.add([IndexedFile(path, FileState(0, 0), 10.0 * len(embedding), starts, embedding)])
    new = index.num_windows - before
    return f"drawn and written at {new / (time.perf_counter() - began):.0f} a second" if new else "written earlier"


def built(folder: Path, index: SoundIndex, threads: int) -> str:
    """Build the graph, or what it lacks, and say how fast that was and how large it is."""
    graph = SoundGraph(folder, writing=True)
    before, began, worked = len(graph), time.perf_counter(), time.process_time()
    graph.update(index, num_threads=threads)
    new, seconds, cores = len(graph) - before, time.perf_counter() - began, time.process_time() - worked
    size = sum(path.stat().st_size for path in folder.glob("graph-*.usearch"))
    rate = f"built at {new / seconds:.0f} a second, {new / cores:.0f} a second of a core" if new else "built earlier"
    return f"{rate}, {size / len(graph):.0f} bytes a vector on disk"


def measure(index: SoundIndex, drawn: Drawn, options: argparse.Namespace) -> None:
    """Print queries per second, and the recall of approximate search."""
    shards = index.shards()
    began = time.perf_counter()
    index.search(drawn.queries("sounds", 1), TOP, keep=True, shards=shards)
    print(f"packed in {time.perf_counter() - began:.1f} s\n")
    print("| search | queries | at once | a second | a second of a core | recall@10 |\n|---|---|---|---|---|---|")
    # By name: the search, how many queries at once, and of how many.
    searches: dict[str, tuple[Search, tuple[tuple[int, int], ...]]] = {
        "exact, packed": (lambda q: keys(index.search(q, TOP, keep=True, shards=shards)), ((1, 16), (64, 256))),
        "exact, as stored": (lambda q: keys(index.search(q, TOP, shards=shards)), ((64, 64),)),
    }
    if not options.no_graph:
        for followed in (16, 40, 80, 160):
            graph = SoundGraph(index.folder, GraphConfig(expansion_search=followed, candidates=followed // TOP))
            searches[f"graph, {followed} followed"] = (
                near(graph, index, shards, options.threads),
                ((1, 1024), (1024, 4096)),
            )
    for what in ("sounds", "texts"):
        queries = drawn.queries(what, 4096)
        truth = keys(index.search(queries[:RECALLED], TOP, keep=True, shards=shards))
        for name, (search, numbers) in searches.items():
            found = search(queries[:RECALLED])
            recall = float(np.mean([len(set(a) & set(b)) / TOP for a, b in zip(found, truth, strict=True)]))
            for together, number in numbers:
                rates = rated(search, queries[:number], together, options.repeats)
                print(f"| {name} | {what} | {together} | {rates} | {recall:.4f} |", flush=True)
    beside(shards, drawn.queries("sounds", 256), options.repeats)


def near(graph: SoundGraph, index: SoundIndex, shards: list[Shard], threads: int) -> Search:
    """The search of a graph."""
    return lambda q: keys(graph.search(index, q, TOP, num_threads=threads, shards=shards))


def beside(shards: list[Shard], queries: FloatArray, repeats: int) -> None:
    """Print what torch takes with all vectors as float32 in memory."""
    vectors = torch.cat([torch.from_numpy(np.array(shard.vectors)).float() for shard in shards])

    def search(given: FloatArray) -> NDArray[np.int64]:
        found: NDArray[np.int64] = (torch.from_numpy(given) @ vectors.T).topk(TOP, 1).indices.numpy()
        return found

    for together in (1, 64):
        rates = rated(search, queries[:16] if together == 1 else queries, together, repeats)
        print(f"| torch, float32 | sounds | {together} | {rates} | 1 |", flush=True)


def rated(search: Search, queries: FloatArray, together: int, repeats: int) -> str:
    """Queries per second, so many at once, in the best of the repeats: by the clock, and by the processor's time."""
    found = []
    for _ in range(repeats):
        began, worked = time.perf_counter(), time.process_time()
        for start in range(0, len(queries), together):
            search(queries[start : start + together])
        found.append((time.perf_counter() - began, time.process_time() - worked))
    return " | ".join(f"{len(queries) / min(times):.1f}" for times in zip(*found, strict=True))


def keys(found: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.int64]:
    """One number for a window: its shard and its row."""
    return (found[1] << 32) + found[2]


if __name__ == "__main__":
    main()
