from __future__ import annotations

import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from auriscope.separation.kmeans import kmeans


def blobs(num_clusters: int, seed: int, spread: float = 0.1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    places = 3 * torch.randn(num_clusters, 6, generator=generator)
    members = torch.randint(num_clusters, (400,), generator=generator)
    return places[members] + spread * torch.randn(400, 6, generator=generator)


def by_order(centres: Tensor) -> Tensor:
    return centres[centres[:, 0].argsort()]


@pytest.mark.parametrize("num_clusters", [1, 2, 3, 5])
def test_the_same_clusters_as_scikit_learn(num_clusters: int) -> None:
    batch = torch.stack([blobs(num_clusters, seed) for seed in range(4)])
    centres, nearest = kmeans(batch, torch.ones(batch.shape[:2]), num_clusters)
    for points, found, labels in zip(batch, centres, nearest, strict=True):
        peer = KMeans(num_clusters, n_init=10, random_state=0).fit(points.numpy())
        expected = torch.from_numpy(peer.cluster_centers_)
        torch.testing.assert_close(by_order(found), by_order(expected), atol=1e-4, rtol=1e-4)
        assert torch.equal(labels[:, None] == labels, torch.from_numpy(peer.labels_[:, None] == peer.labels_))


def test_weights_count_points_that_often() -> None:
    points = blobs(2, 0, spread=1.5)
    weights = torch.randint(0, 4, (400,), generator=torch.Generator().manual_seed(1))
    repeated = points.repeat_interleave(weights, 0)
    start, _ = kmeans(points[None], weights[None].float(), 2)
    peer = KMeans(2, init=start[0].numpy(), n_init=1).fit(repeated.numpy())
    torch.testing.assert_close(start[0], torch.from_numpy(peer.cluster_centers_), atol=1e-3, rtol=1e-3)


def test_points_without_weight_change_nothing_and_are_assigned() -> None:
    points = blobs(3, 2)
    far = torch.full((50, 6), 100.0)
    weights = torch.cat([torch.ones(400), torch.zeros(50)])
    alone, labels = kmeans(points[None], torch.ones(1, 400), 3)
    among, all_labels = kmeans(torch.cat([points, far])[None], weights[None], 3)
    torch.testing.assert_close(among, alone)
    assert torch.equal(all_labels[:, :400], labels)
    assert torch.equal(all_labels[0, 400:], (far - alone[0][:, None]).square().sum(-1).argmin(0))


def test_fewer_different_points_than_clusters() -> None:
    points = torch.ones(1, 10, 4)
    centres, nearest = kmeans(points, torch.ones(1, 10), 3)
    assert torch.equal(centres, torch.ones(1, 3, 4))
    assert not nearest.any()
    centres, _ = kmeans(points, torch.zeros(1, 10), 2)
    assert centres.isfinite().all()
