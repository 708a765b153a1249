from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auriscope.data.cache import AudioStore
from auriscope.data.rooms import RoomBankConfig, Rooms, measured_rooms, simulated_rooms
from auriscope.errors import CorpusError

RATE = 16_000


def reverberation_seconds(response: np.ndarray) -> float:
    """RT60 from -5 to -25 dB of Schroeder's backward integral, times three."""
    energy = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    decay_db = 10 * np.log10(energy / energy[0] + 1e-12)
    return 3 * float(np.argmax(decay_db < -25) - np.argmax(decay_db < -5)) / RATE


def test_measured_responses_start_at_their_direct_sound(corpora: Path) -> None:
    rooms = measured_rooms("train", sample_rate=RATE)
    assert rooms.groups == [[(0, 1), (2, 3), (4, 5), (6, 7)]]
    for response in range(8):
        assert np.argmax(np.abs(rooms.store.read(response))) == 16


def test_every_talker_stands_elsewhere(corpora: Path) -> None:
    rooms = measured_rooms("train", sample_rate=RATE)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert len({response // 2 for response in rooms.draw(3, rng)}) == 3
    with pytest.raises(CorpusError, match="4 positions, too few for 5"):
        rooms.draw(5, rng)


def test_rooms_are_drawn_by_weight() -> None:
    rooms = Rooms(AudioStore.of([], RATE), [[(0,)], [(1,)]], [3.0, 1.0])
    rng = np.random.default_rng(0)
    drawn = [rooms.draw(1, rng)[0] for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(0.25, abs=0.04)


def test_simulated_rooms_reverberate_as_asked(tmp_path: Path) -> None:
    pytest.importorskip("pyroomacoustics")
    config = RoomBankConfig(
        num_rooms=2,
        num_positions=2,
        length_metres=(4.0, 5.0),
        width_metres=(3.0, 4.0),
        rt60_seconds=(0.3, 0.3),
    )
    rooms = simulated_rooms(config, sample_rate=RATE, folder=tmp_path)
    assert rooms.groups == [[(0,), (1,)], [(2,), (3,)]]
    for response in range(4):
        waveform = rooms.store.read(response)
        assert np.abs(waveform).max() == pytest.approx(0.9, abs=1e-3)
        # Sabine's formula is itself rough in small rooms.
        assert 0.2 < reverberation_seconds(waveform) < 0.5
        # 4 m of sound at the most lie between the nearest and the farthest talker.
        assert np.argmax(np.abs(waveform) > 0.3) < 0.013 * RATE
    again = simulated_rooms(config, sample_rate=RATE, folder=tmp_path / "elsewhere")
    np.testing.assert_array_equal(rooms.store.samples, again.store.samples)
