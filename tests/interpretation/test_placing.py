"""Where values of a hidden map lie in the input, beside torch's interpolation and the filters of mels."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from auriscope.interpretation.placing import check_mel_hz, placed
from auriscope.signal.mel import hz_to_mel, mel_filterbank


def test_without_mels_it_is_bilinear() -> None:
    maps = torch.rand(2, 3, 4, 5)
    expected = F.interpolate(maps, (9, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(placed(maps, (9, 16)), expected)


@pytest.mark.parametrize("band", [2, 10, 20, 29])
def test_a_mel_lies_where_its_filter_does(band: int) -> None:
    rate, num_mels, mel_hz = 16_000, 32, (50.0, 8000.0)
    filters = mel_filterbank(rate, 2048, num_mels, min_hz=50.0, max_hz=8000.0, scale="htk", norm="none")
    maps = torch.zeros(1, 1, 3, num_mels)
    maps[..., band] = 1.0
    found = placed(maps, (3, 1025), mel_hz, rate)[0, 0, 1]
    middle = filters[band] @ torch.arange(1025.0) / filters[band].sum()
    # The cells of a map share the span of the mels among them, whose filters reach beyond theirs: half a cell apart.
    cell = float((filters[band] > 0).sum()) / 2.0
    assert abs(float(found.argmax()) - float(middle)) < 0.6 * cell


def test_mels_are_interpolated_on_their_own_scale() -> None:
    rate, mel_hz = 16_000, (100.0, 6000.0)
    number = 40
    low, high = hz_to_mel(torch.tensor(mel_hz), "htk").tolist()
    # A map that tells the mel itself must tell that of every bin, as far as there are mels.
    centres = low + (torch.arange(number) + 0.5) / number * (high - low)
    found = placed(centres.expand(1, 1, 2, -1), (5, 513), mel_hz, rate)
    expected = hz_to_mel(torch.linspace(0.0, rate / 2, 513), "htk").clamp(float(centres[0]), float(centres[-1]))
    torch.testing.assert_close(found, expected.expand(1, 1, 5, -1), atol=0.01, rtol=1e-4)


def test_one_mel_is_everywhere() -> None:
    maps = torch.rand(1, 2, 3, 1)
    found = placed(maps, (3, 9), (50.0, 4000.0), 8000)
    torch.testing.assert_close(found, maps.expand(-1, -1, -1, 9))


@pytest.mark.parametrize(
    ("mel_hz", "rate"), [((50.0, 4001.0), 8000), ((500.0, 50.0), 8000), ((-1.0, 50.0), 8000), ((50.0, 60.0), 0)]
)
def test_frequencies_that_there_are_not(mel_hz: tuple[float, float], rate: int) -> None:
    with pytest.raises(ValueError, match="mel_hz"):
        check_mel_hz(mel_hz, rate)
