"""K-means without chance, for batches: the same points give the same clusters, alone or among others."""

from __future__ import annotations

import torch
from torch import Tensor


def kmeans(points: Tensor, weights: Tensor, num_clusters: int, *, num_iterations: int = 20) -> tuple[Tensor, Tensor]:
    """Divide weighted points into clusters of least squared distance to their centres.

    Args:
        points: (batch, N, D) float.
        weights: (batch, N), not negative; points of weight zero move no centre.
        num_clusters: S.
        num_iterations: of Lloyd's algorithm; a fixed number, so that it can be exported.

    Returns:
        The centres (batch, S, D) and the nearest centre of every point, (batch, N) int64. A cluster that loses all its
        points keeps its centre.

    The first centre is the point farthest from the mean, each further one the point farthest from all those before
    (T. Gonzalez 1985, "Clustering to minimize the maximum intercluster distance"): nothing is drawn at random. Then
    S. Lloyd 1982, "Least squares quantization in PCM".

    >>> import torch
    >>> points = torch.tensor([[[0.0], [0.2], [5.0], [5.5]]])
    >>> centres, nearest = kmeans(points, torch.ones(1, 4), 2)
    >>> centres.flatten().tolist(), nearest.tolist()
    ([5.25, 0.10000000149011612], [[1, 1, 0, 0]])
    """
    weights = weights.to(points.dtype)
    total = weights.sum(1, keepdim=True).clamp(min=1e-12)
    mean = (weights[..., None] * points).sum(1, keepdim=True) / total[..., None]
    distance = (points - mean).square().sum(-1)
    chosen = []
    for number in range(num_clusters):
        farthest = distance.masked_fill(weights <= 0, -1).argmax(1)
        centre = points.gather(1, farthest[:, None, None].expand(-1, 1, points.shape[-1]))
        from_centre = (points - centre).square().sum(-1)
        distance = from_centre if number == 0 else torch.minimum(distance, from_centre)
        chosen.append(centre)
    centres = torch.cat(chosen, dim=1)
    for _ in range(num_iterations):
        members = torch.nn.functional.one_hot(_nearest(points, centres), num_clusters) * weights[..., None]
        sizes = members.sum(1)[..., None]
        moved = members.transpose(1, 2) @ points / sizes.clamp(min=1e-12)
        centres = torch.where(sizes > 0, moved, centres)
    return centres, _nearest(points, centres)


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    # |p - c|^2 without |p|^2, which is the same for all centres.
    return (centres.square().sum(-1)[:, None] - 2 * points @ centres.transpose(1, 2)).argmin(-1)
