"""Clustering of embeddings: which stretches of speech are one voice, and how many voices there are.

Two ways to begin. Spectral: the eigenvectors of the graph of nearest neighbours, whose number of clusters is read from
the largest gap between eigenvalues. Agglomerative: the nearest are joined by their mean similarity. Either finds too
many voices now and then: sentences that are heard again, or a voice that is alone, make clusters of their own. So the
clusters are then joined by the similarity of their mean voices, which varies far less than that of two short stretches,
until no two are nearer than a threshold.

Time and memory are bounded: more embeddings than ``_MOST`` are first joined to small clusters, part by part (Q. Wang et
al., "Highly Efficient Real-Time Streaming and Fully On-Device Speaker Diarization with Multi-Stage Clustering",
arXiv 2210.13690).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.cluster.vq import kmeans2
from scipy.linalg import eigh

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Method = Literal["agglomerative", "spectral"]

_MOST = 2_000
"""So many embeddings are clustered at once."""
_PART, _SMALL = 1_000, 100
"""Parts of more, and how many small clusters each becomes."""
_MOST_SPECTRAL = 400
_FIRST_CLUSTERS = 40
"""From so many on clusters are joined by their mean voices."""


@dataclass(frozen=True)
class ClusteringConfig:
    """How voices are told apart.

    ``threshold``: the cosine similarity, -1 to 1, from which two mean voices are one person's; it belongs to the
    embedding. ``max_speakers``: no more are found. ``min_share``: a cluster with a
    smaller share of the embeddings than this, and fewer than ``min_size`` of them, is no person of its own.
    """

    method: Method = "spectral"
    threshold: float = 0.6
    max_speakers: int = 20
    min_share: float = 0.01
    min_size: int = 8

    def __post_init__(self) -> None:
        if self.method not in ("agglomerative", "spectral"):
            raise ValueError(f"method must be agglomerative or spectral, not {self.method!r}")
        if self.max_speakers < 1:
            raise ValueError(f"max_speakers must be at least 1, not {self.max_speakers}")


def cluster(embeddings: Any, num_speakers: int | None = None, config: ClusteringConfig | None = None) -> Labels:
    """Tell which embeddings are of one voice.

    Args:
        embeddings: (stretches, dim), of any length; zeros are taken for an unknown voice.
        num_speakers: how many voices there are; None: they are counted. There are never more than stretches.
        config: see :class:`ClusteringConfig`.

    Returns:
        (stretches,) numbers of the voices, from 0, in the order in which they first appear.

    >>> import numpy as np
    >>> cluster(np.array([[1.0, 0.1], [0.0, 1.0], [1.0, 0.0], [0.1, 1.0]])).tolist()
    [0, 1, 0, 1]
    """
    config = config or ClusteringConfig()
    units = unit(np.asarray(embeddings, dtype=np.float64))
    if num_speakers is not None and num_speakers < 1:
        raise ValueError(f"num_speakers must be at least 1, not {num_speakers}")
    if len(units) < 2 or num_speakers == 1:
        return np.zeros(len(units), dtype=np.int64)
    wanted = None if num_speakers is None else min(num_speakers, len(units))
    if config.method == "spectral":
        small = _reduced(units, _MOST_SPECTRAL)
        # Room for more than the most: the nearest of them are joined afterwards.
        first = _spectral(_means(units, small), wanted, config.max_speakers + 10)
    else:
        small = _reduced(units, _MOST)
        first = _cut(_means(units, small), max(_FIRST_CLUSTERS, wanted or 0))
    return in_order(_joined_by_means(units, first[small], wanted, config))


def unit(embeddings: Array) -> Array:
    """Scale embeddings (stretches, dim) to unit length; zeros stay."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.where(lengths > 0.0, lengths, 1.0))


def in_order(labels: Labels) -> Labels:
    """Number labels anew, from 0, in the order of their first appearance."""
    _, firsts, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(firsts))[inverse], dtype=np.int64)


def mean_voices(embeddings: Array, labels: Labels) -> Array:
    """Give the mean of each voice's embeddings of unit length, scaled to unit length: (voices, dim)."""
    return unit(_means(unit(embeddings), labels))


def _means(units: Array, labels: Labels) -> Array:
    counts = np.bincount(labels)
    sums = np.zeros((len(counts), units.shape[1]))
    np.add.at(sums, labels, units)
    return np.asarray(sums / np.maximum(counts, 1)[:, None])


def _reduced(units: Array, most: int) -> Labels:
    """Join the nearest, part by part, until there are at most ``most`` small clusters."""
    labels = np.arange(len(units))
    while (number := int(labels.max()) + 1) > most:
        means = _means(units, labels)
        size = min(_PART, most)
        kept = min(_SMALL, size // 4)
        parts, offset = np.zeros(number, dtype=np.int64), 0
        for begin in range(0, number, size):
            part = _cut(means[begin : begin + size], kept)
            parts[begin : begin + size] = part + offset
            offset += int(part.max()) + 1
        labels = parts[labels]
    return labels


def _cut(points: Array, number: int) -> Labels:
    """Join the nearest by mean cosine similarity (UPGMA), down to ``number`` clusters."""
    if len(points) <= number:
        return np.arange(len(points))
    units = unit(points)
    similarity = np.clip(units @ units.T, -1.0, 1.0)
    distances = 1.0 - similarity[np.triu_indices(len(units), 1)]
    return np.asarray(fcluster(linkage(distances, "average"), number, "maxclust") - 1, dtype=np.int64)


def _joined_by_means(units: Array, labels: Labels, wanted: int | None, config: ClusteringConfig) -> Labels:
    """Join the clusters whose mean voices are nearest, until there are as many as wanted or none are near enough."""
    labels = in_order(labels)
    # Of a short recording a second of speech is a person.
    least = max(min(config.min_size, len(units) // 8), config.min_share * len(units))
    while (number := int(labels.max()) + 1) > (wanted or 1):
        voices, sizes = mean_voices(units, labels), np.bincount(labels)
        similarity = voices @ voices.T
        np.fill_diagonal(similarity, -np.inf)
        one, other = divmod(int(np.argmax(similarity)), number)
        if similarity[one, other] < config.threshold:
            smallest = int(np.argmin(sizes))
            if sizes[smallest] < least:
                # Too little to be a person: it goes to the nearest.
                one, other = smallest, int(np.argmax(similarity[smallest]))
            elif wanted is None and number <= config.max_speakers:
                break
        labels = in_order(np.where(labels == one, other, labels))
    return labels


def _spectral(points: Array, wanted: int | None, most: int) -> Labels:
    """Cluster by the eigenvectors of the graph of nearest neighbours.

    How many neighbours each has is chosen as T. J. Park et al., "Auto-Tuning Spectral Clustering for Speaker
    Diarization Using Normalized Maximum Eigengap" (IEEE Signal Processing Letters 27, 2020), so that their share over
    the normalised gap is least.
    """
    units = unit(points)
    similarity = units @ units.T
    order = np.argsort(-similarity, axis=1)
    size = len(units)
    best: tuple[float, int, Array] | None = None
    for neighbours in np.unique(np.linspace(2, max(2, size // 4), 12).astype(int)):
        graph = np.zeros_like(similarity)
        np.put_along_axis(graph, order[:, :neighbours], 1.0, axis=1)
        graph = 0.5 * (graph + graph.T)
        laplacian = np.diag(graph.sum(axis=1)) - graph
        last = min(size, max(most, wanted or 1) + 1) - 1
        values, vectors = eigh(laplacian, subset_by_index=(0, last))
        gaps = np.diff(values)
        number = wanted if wanted is not None else int(np.argmax(gaps[:most])) + 1
        # All of the spectrum's width is what the gap is measured by; the largest degree bounds it.
        gap = gaps[min(number, len(gaps)) - 1] / (2.0 * graph.sum(axis=1).max())
        ratio = neighbours / size / max(gap, 1e-12)
        if best is None or ratio < best[0]:
            best = ratio, number, vectors
    assert best is not None
    _, number, vectors = best
    if number == 1:
        return np.zeros(size, dtype=np.int64)
    features = vectors[:, :number]
    return np.asarray(kmeans2(features, number, minit="++", seed=0)[1], dtype=np.int64)
