from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auriscope.separation.selection import fit_thresholds_db, select_separation, track_depths_db


class Oracle:
    """A separator for ``number`` talkers: too many share the last track, too few leave tracks faint."""

    def __init__(self, sources: Tensor, number: int) -> None:
        self.sources, self.number, self.calls = sources, number, 0

    def __call__(self, mixture: Tensor) -> Tensor:
        self.calls += 1
        tracks = 1e-3 * mixture.expand(self.number, -1).clone()
        for index, source in enumerate(self.sources):
            tracks[min(index, self.number - 1)] += source
        return tracks[None]


@pytest.mark.parametrize("talkers", [1, 2, 3, 4])
def test_the_largest_separator_whose_tracks_are_all_heard(talkers: int) -> None:
    sources = torch.randn(talkers, 400, generator=torch.Generator().manual_seed(talkers))
    separators = {number: Oracle(sources, number) for number in (2, 3, 4)}
    chosen = select_separation(sources.sum(0), separators)
    assert chosen.num_sources == talkers
    expected = sources if talkers == 1 else separators[talkers](sources.sum(0)[None])[0]
    torch.testing.assert_close(chosen.estimates, expected)
    # The largest first, and none below the one that is chosen.
    assert [separators[number].calls > 0 for number in (2, 3, 4)] == [number >= talkers for number in (2, 3, 4)]


def test_thresholds_decide_what_is_silent() -> None:
    tracks = torch.tensor([1.0, 0.1])[:, None] * torch.ones(2, 50)
    separators = {2: lambda mixture: tracks[None]}
    assert select_separation(torch.ones(50), separators, {2: 20.5}).num_sources == 2
    assert select_separation(torch.ones(50), separators, {2: 19.5}).num_sources == 1


def test_depths_leave_out_padding_and_survive_silence() -> None:
    estimates = torch.zeros(2, 2, 6)
    estimates[0, 0, :3], estimates[0, 1, :3], estimates[0, 1, 3:] = 1.0, 0.1, 9.0
    depths = track_depths_db(estimates, torch.tensor([3, 6]))
    torch.testing.assert_close(depths, torch.tensor([[0.0, 20.0], [0.0, 0.0]], dtype=torch.float64), atol=1e-5, rtol=0)


def test_fitted_thresholds_part_the_examples() -> None:
    """One talker leaves the second track 30 dB down, two leave the third 18 dB down, and everybody heard is near."""
    counts = [1, 1, 2, 2, 3, 3]
    depths = {2: [30.0, 26.0, 3.0, 7.0, 1.0, 2.0], 3: [33.0, 31.0, 18.0, 16.0, 4.0, 8.0]}
    thresholds = fit_thresholds_db(depths, counts)
    assert thresholds == {2: pytest.approx(16.5), 3: pytest.approx(12.0)}


def test_impossible_requests() -> None:
    with pytest.raises(ValueError, match="one separator"):
        select_separation(torch.ones(5), {})
    with pytest.raises(ValueError, match="for 3 talkers gives 2"):
        select_separation(torch.ones(5), {3: lambda mixture: torch.ones(1, 2, 5)})
    with pytest.raises(ValueError, match="fewer than 2"):
        fit_thresholds_db({2: [1.0, 2.0]}, [2, 3])
