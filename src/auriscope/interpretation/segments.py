"""What an input is cut into before its parts are left out: superpixels, bands over time, and separated sources.

Segments are labels (batch, height, width) int64 from 0 without gaps, or masks (batch, segments, height, width) from 0
to 1 that sum to one at every point, so that all of them together are the input itself.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from auriscope.signal.mel import hz_to_mel, mel_to_hz

# Of sRGB to the tristimulus values under D65 (IEC 61966-2-1), each row over that of white.
_RGB_TO_XYZ = (
    (0.412453 / 0.950456, 0.357580 / 0.950456, 0.180423 / 0.950456),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.088754, 0.119193 / 1.088754, 0.950227 / 1.088754),
)
_TIE_BREAK = 1e-5


@torch.no_grad()
def superpixels(
    image: Tensor, *, kernel_size: float = 4.0, max_distance: float = 200.0, ratio: float = 0.2, seed: int = 0
) -> Tensor:
    """Cut pictures into superpixels by quick shift, (batch, height, width) int64 labels, by rows from the top left.

    Every pixel is linked to the nearest one, in colour and place, that lies in a denser neighbourhood; what hangs
    together is a segment.

    Args:
        image: (batch, channels, height, width) in [0, 1], one channel (grey) or three (red, green, blue).
        kernel_size: width of the Gaussian in pixels; neighbours are those up to three such widths away.
        max_distance: links that are longer are cut.
        ratio: what a unit of the colour space CIELAB counts beside a pixel; the defaults are LIME's.
        seed: of the noise that decides in a flat area, where all neighbourhoods are as dense.

    Source: Vedaldi and Soatto, "Quick shift and kernel methods for mode seeking" (ECCV 2008), section 2.
    """
    batch, _, height, width = image.shape
    colour = ratio * _lab(image.double())
    reach = int(-(-3 * kernel_size // 1))
    shifts = [
        (down, right)
        for down, right in itertools.product(range(-reach, reach + 1), repeat=2)
        if abs(down) < height and abs(right) < width
    ]
    density = torch.zeros(batch, height, width, dtype=torch.float64, device=image.device)
    for down, right in shifts:
        here, there = _overlap(down, right, height, width)
        # In place, so that a view of the area is added to.
        density[here] += (-_distance(colour, here, there, down, right) / (2.0 * kernel_size**2)).exp()
    # The same for every picture of a batch, so that none depends on the others.
    noise = torch.randn(height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    density += _TIE_BREAK * noise.to(density.device)
    number = torch.arange(height * width, device=image.device).reshape(1, height, width).expand(batch, -1, -1)
    parent, nearest = number.clone(), torch.full_like(density, max_distance**2)
    for down, right in shifts:
        here, there = _overlap(down, right, height, width)
        distance = _distance(colour, here, there, down, right)
        closer = (density[there] > density[here]) & (distance < nearest[here])
        nearest[here] = torch.where(closer, distance, nearest[here])
        parent[here] = torch.where(closer, number[there], parent[here])
    root = parent.flatten(1)
    while not torch.equal(root, above := root.gather(1, root)):
        root = above
    return torch.stack([torch.unique(each, return_inverse=True)[1] for each in root]).reshape(batch, height, width)


def time_frequency_segments(
    num_frames: int, num_bins: int, *, num_spans: int = 8, num_bands: int = 8, sample_rate: int = 16_000
) -> Tensor:
    """Cut a spectrogram into spans of time and bands of frequency, (1, frames, bins) int64 labels.

    The spans are as long as each other, the bands as wide as each other in mel from 0 Hz to half the ``sample_rate``,
    with ``num_bins`` of them. There are fewer where there are not as many frames or bins.

    Source: Mishra, Sturm and Dixon, "Local interpretable model-agnostic explanations for music content analysis"
    (ISMIR 2017), section 3, time-frequency segments.

    >>> time_frequency_segments(4, 5, num_spans=2, num_bands=2)[0].tolist()
    [[0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [2, 3, 3, 3, 3], [2, 3, 3, 3, 3]]
    """
    span = torch.arange(num_frames) * min(num_spans, num_frames) // num_frames
    highest = hz_to_mel(torch.tensor(sample_rate / 2.0))
    edges = mel_to_hz(torch.linspace(0.0, float(highest), num_bands + 1)[1:-1])
    band = torch.bucketize(torch.linspace(0.0, sample_rate / 2.0, num_bins), edges, right=True)
    # A band in which no bin lies has no number.
    band = torch.unique(band, return_inverse=True)[1]
    labels: Tensor = span[:, None] * (int(band.max()) + 1) + band
    return labels[None]


def source_segments(magnitude: Tensor, *, num_spans: int = 1) -> Tensor:
    """Make masks of separated sources, (batch, sources * spans, frames, bins), each cut into spans of time.

    Args:
        magnitude: (batch, sources, frames, bins), not negative, of the separated sources as loud as they are in the
            mixture: a source that was scaled to its own peak would take too large a share.
        num_spans: of the same length, at most as many as there are frames.

    Returns:
        Each source's share of the power; where all are silent, each has the same. They sum to one.

    Source: Haunschmid, Manilow and Widmer, "audioLIME: listenable explanations using source separation" (arXiv
    2008.00582), section 2: a component is a source over a span of time. Shares in the place of the sources' own
    signals, so that the components sum to the mixture.
    """
    power = magnitude.double().square()
    # Beside the loudest of an example: below, no source can be told from rounding.
    floor = 1e-12 * power.amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(torch.float64).tiny) + power * 0
    power = power + floor
    share = (power / power.sum(1, keepdim=True)).to(magnitude)
    num_frames = share.shape[2]
    num_spans = min(num_spans, num_frames)
    span = torch.arange(num_frames, device=share.device) * num_spans // num_frames
    chosen = (span == torch.arange(num_spans, device=share.device)[:, None]).to(share)
    return (share[:, :, None] * chosen[None, None, :, :, None]).flatten(1, 2)


Area = tuple[slice, slice, slice]


def _overlap(down: int, right: int, height: int, width: int) -> tuple[Area, Area]:
    """Give the area whose pixels have a neighbour so far down and right, and where these lie."""
    rows, columns = (slice(max(0, -shift), min(size, size - shift)) for shift, size in ((down, height), (right, width)))
    here = slice(None), rows, columns
    there = slice(None), slice(rows.start + down, rows.stop + down), slice(columns.start + right, columns.stop + right)
    return here, there


def _distance(colour: Tensor, here: Area, there: Area, down: int, right: int) -> Tensor:
    """Give the squared distance in colour (batch, height, width, channels) and place between two areas."""
    return (colour[here] - colour[there]).square().sum(-1) + float(down**2 + right**2)


def _lab(image: Tensor) -> Tensor:
    """Turn grey or sRGB pictures (batch, channels, height, width) into CIELAB (batch, height, width, channels).

    Source: IEC 61966-2-1 (sRGB) and ISO 11664-4 (CIELAB). Grey has the first of its three channels only.
    """
    if image.shape[1] not in (1, 3):
        raise ValueError(f"superpixels are of pictures with one or three channels, not {image.shape[1]}")
    linear = torch.where(image > 0.04045, ((image + 0.055) / 1.055).clamp(min=0) ** 2.4, image / 12.92)
    if image.shape[1] == 3:
        linear = torch.einsum("xc,bchw->bxhw", image.new_tensor(_RGB_TO_XYZ), linear)
    curved = torch.where(linear > 0.008856, linear.clamp(min=0) ** (1.0 / 3.0), 7.787 * linear + 16.0 / 116.0)
    if image.shape[1] == 1:
        return (116.0 * curved - 16.0).movedim(1, -1)
    x, y, z = curved.unbind(1)
    return torch.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)), -1)
