from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from auriscope.speaker import clustering
from auriscope.speaker.clustering import ClusteringConfig, cluster, in_order, mean_voices

METHODS = ("agglomerative", "spectral")


def voices(sizes: list[int], *, noise: float = 0.6, dim: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around orthogonal voices, in an order as people speak, and whose they are."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0][: len(sizes)]
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    embeddings = basis[labels] + noise * rng.standard_normal((len(labels), dim)) / np.sqrt(dim)
    return embeddings * rng.uniform(0.5, 3.0, size=(len(labels), 1)), labels


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", [[60, 60], [90, 20, 40], [40, 30, 50, 60, 25]])
def test_counts_and_tells_voices_apart(method, sizes: list[int]) -> None:
    embeddings, truth = voices(sizes)
    assert np.array_equal(cluster(embeddings, config=ClusteringConfig(method)), in_order(truth))


@pytest.mark.parametrize("method", METHODS)
def test_a_given_number_is_kept(method) -> None:
    embeddings, truth = voices([50, 50, 50])
    config = ClusteringConfig(method)
    assert np.array_equal(cluster(embeddings, 3, config), in_order(truth))
    assert set(cluster(embeddings, 2, config)) == {0, 1}
    assert len(set(cluster(embeddings, 5, config))) == 5
    assert cluster(embeddings[:2], 4, config).max() <= 1
    assert not cluster(embeddings, 1, config).any()


def test_one_voice_is_one_voice() -> None:
    assert not cluster(voices([80])[0]).any()


def test_the_scale_of_embeddings_and_their_order_do_not_matter() -> None:
    embeddings, truth = voices([30, 40, 50], seed=3)
    order = np.random.default_rng(1).permutation(len(truth))
    found = cluster(embeddings[order] * 100.0)
    assert np.array_equal(found, in_order(truth[order]))


def test_few_stray_stretches_are_no_person() -> None:
    embeddings, truth = voices([60, 60, 3], seed=2)
    found = cluster(embeddings)
    assert found.max() == 1
    assert np.array_equal(found[truth < 2], in_order(truth[truth < 2]))


def test_the_first_joins_are_those_of_scikit_learn() -> None:
    embeddings, _ = voices([20, 20, 20, 20], noise=2.0, seed=4)
    theirs = AgglomerativeClustering(7, metric="cosine", linkage="average").fit_predict(embeddings)
    assert adjusted_rand_score(theirs, clustering._cut(embeddings, 7)) == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_hours_of_speech_are_reduced_first(method, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    cut = clustering._cut
    monkeypatch.setattr(clustering, "_cut", lambda points, number: sizes.append(len(points)) or cut(points, number))
    embeddings, truth = voices([2000, 900, 1600], noise=0.8)
    found = cluster(embeddings, config=ClusteringConfig(method))
    assert adjusted_rand_score(truth, found) > 0.99
    assert max(sizes) <= clustering._MOST


def test_no_more_than_the_most_are_found() -> None:
    embeddings, _ = voices([20] * 6)
    assert cluster(embeddings, config=ClusteringConfig(max_speakers=4)).max() == 3


def test_nothing_one_and_zeros() -> None:
    assert len(cluster(np.zeros((0, 4)))) == 0
    assert cluster(np.ones((1, 4))).tolist() == [0]
    assert np.isfinite(mean_voices(np.zeros((3, 4)), np.zeros(3, dtype=np.int64))).all()
    assert len(cluster(np.zeros((5, 4)))) == 5


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="method"):
        ClusteringConfig(method="magic")
    with pytest.raises(ValueError, match="max_speakers"):
        ClusteringConfig(max_speakers=0)
    with pytest.raises(ValueError, match="num_speakers"):
        cluster(np.ones((3, 2)), 0)
