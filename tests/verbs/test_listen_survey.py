"""The one pass over a sound: pictures, levels and turns, whatever the sizes of the blocks."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from auriscope.verbs.listen.pictures import frequency_ticks, loud_level_db, spectrogram_png, time_ticks, waveform_path
from auriscope.verbs.listen.survey import (
    ENVELOPE_COLUMNS,
    NUM_COLUMNS,
    NUM_ROWS,
    find_turns,
    row_hertz,
    survey,
)


def tone(seconds: float, hertz: float, sample_rate: int, amplitude: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def cut(waveform: np.ndarray, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    places = np.sort(rng.integers(0, len(waveform), 7))
    return np.split(waveform, places)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 48000])
def test_blocks_do_not_matter(sample_rate: int) -> None:
    waveform = np.random.default_rng(0).normal(0, 0.1, int(1.37 * sample_rate)).astype(np.float32)
    whole = survey([waveform], sample_rate, len(waveform))
    pieces = survey(cut(waveform, 1), sample_rate, len(waveform))
    assert pieces.num_frames == len(waveform)
    np.testing.assert_array_equal(pieces.envelope, whole.envelope)
    np.testing.assert_allclose(pieces.spectrogram_db, whole.spectrogram_db, rtol=1e-5)
    np.testing.assert_allclose(pieces.activity_db, whole.activity_db, atol=1e-3)


@pytest.mark.parametrize("hertz", [300.0, 1010.0, 3005.0, 7100.0])
def test_a_tone_lies_in_its_row_at_its_level(hertz: float) -> None:
    waveform = tone(2.0, hertz, 16000, amplitude=0.1)
    found = survey([waveform], 16000, len(waveform))
    middle = found.spectrogram_db[:, found.spectrogram_db.shape[1] // 2]
    rows = row_hertz(NUM_ROWS, found.top_hertz)
    loudest = rows[np.argmax(middle)]
    assert loudest == pytest.approx(hertz, rel=0.05)
    # A sine of amplitude 0.1 lies 20 dB under a full-scale one; between two bins it loses 1.4 dB, and rows add a bit.
    assert middle.max() == pytest.approx(-20.0, abs=2.0)
    assert found.rms_dbfs == pytest.approx(-23.01, abs=0.05)
    assert np.median(found.activity_db) == pytest.approx(-23.01, abs=0.2)


def test_the_envelope_reaches_the_extremes_at_their_place() -> None:
    waveform = np.zeros(60_000, dtype=np.float32)
    waveform[15_000], waveform[45_000] = 0.75, -0.25
    envelope = survey(cut(waveform, 2), 16000, len(waveform)).envelope
    assert np.argmax(envelope[:, 1]) == 15_000 * ENVELOPE_COLUMNS // 60_000
    assert np.argmin(envelope[:, 0]) == 45_000 * ENVELOPE_COLUMNS // 60_000
    assert envelope.max() == 0.75
    assert envelope.min() == -0.25


@pytest.mark.parametrize("num_frames", [1, 10, 700])
def test_a_few_samples_are_enough(num_frames: int) -> None:
    found = survey([np.full(num_frames, 0.1, dtype=np.float32)], 16000, num_frames)
    assert found.num_frames == num_frames
    assert np.isfinite(found.spectrogram_db).all()
    assert spectrogram_png(found.spectrogram_db, 0.0).startswith(b"\x89PNG")
    assert waveform_path(found.envelope, 0.1).endswith("Z")
    assert find_turns([found.activity_db]) == [[]]


def test_a_wrong_announced_length_is_survived() -> None:
    waveform = tone(3.0, 440.0, 16000)
    for announced in (0, 16000, 10 * len(waveform)):
        found = survey([waveform], 16000, announced)
        assert found.num_frames == len(waveform)
        assert found.spectrogram_db.shape[0] == NUM_ROWS
        assert 1 <= found.spectrogram_db.shape[1] <= NUM_COLUMNS


def test_memory_does_not_grow_with_the_recording() -> None:
    block = np.random.default_rng(0).normal(0, 0.1, 1 << 16).astype(np.float32)

    def peak(num_blocks: int) -> int:
        tracemalloc.start()
        survey((block for _ in range(num_blocks)), 16000, num_blocks * len(block))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    short, long = peak(40), peak(240)
    # What grows is the activity, and the pictures until they are full; the sound between the two is 52 MB.
    assert long - short < 0.04 * 200 * block.nbytes


def test_turns_are_found_and_leakage_is_not_a_turn() -> None:
    sample_rate = 16000
    noise = np.random.default_rng(3).normal(0, 0.1, 10 * sample_rate).astype(np.float32)
    first, second = noise.copy(), noise[::-1].copy()
    first[5 * sample_rate :] *= 0.02
    second[: 4 * sample_rate] *= 0.1  # 20 dB down: what leaks over from the first
    levels = [survey([track], sample_rate, len(track)).activity_db for track in (first, second)]
    (first_turn,), (second_turn,) = find_turns(levels)
    assert first_turn == pytest.approx((0.0, 5.0), abs=0.1)
    assert second_turn == pytest.approx((4.0, 10.0), abs=0.1)


def test_short_pauses_join_and_short_bursts_go() -> None:
    levels = np.full(500, -100.0, dtype=np.float32)
    levels[50:150] = -20.0
    levels[160:250] = -20.0  # 0.2 s later: the same turn
    levels[400:403] = -20.0  # 0.06 s
    ((turn,),) = find_turns([levels])
    assert turn == pytest.approx((1.0, 5.0), abs=0.1)


def test_silent_tracks_have_no_turns() -> None:
    silent = np.full(500, -140.0, dtype=np.float32)
    assert find_turns([silent, silent]) == [[], []]
    assert find_turns([]) == []


def test_the_picture_grows_darker_with_the_level() -> None:
    import io

    from PIL import Image

    levels = np.linspace(-80.0, 0.0, 50, dtype=np.float32)
    picture = Image.open(io.BytesIO(spectrogram_png(np.tile(levels, (4, 1)), 0.0))).convert("L")
    assert picture.size == (50, 4)
    row = np.asarray(picture)[0].astype(int)
    assert row[0] == 255
    assert (np.diff(row) <= 0).all()
    assert row[-1] < 60


def test_low_frequencies_are_at_the_bottom() -> None:
    import io

    from PIL import Image

    levels = np.full((10, 3), -100.0, dtype=np.float32)
    levels[0] = 0.0
    shades = np.asarray(Image.open(io.BytesIO(spectrogram_png(levels, 0.0))).convert("L"))
    assert shades[-1].max() < 60
    assert shades[:-1].min() == 255


def test_ticks_lie_inside_and_in_order() -> None:
    places = [place for _, place in frequency_ticks(8000.0, NUM_ROWS)]
    assert places == sorted(places, reverse=True)
    assert places[-1] == pytest.approx(0.0)
    assert [label for label, _ in frequency_ticks(2000.0, NUM_ROWS)][-1] == "2 kHz"
    for duration in (0.0006, 0.5, 7.0, 59.9, 3600.0, 40 * 3600.0):
        ticks = time_ticks(duration)
        assert 1 <= len(ticks) <= 10
        assert all(0.0 <= place <= 97.0 for _, place in ticks)
        assert len({label for label, _ in ticks}) == len(ticks)


def test_silence_is_drawn_as_background() -> None:
    import io

    from PIL import Image

    found = survey([np.zeros(16000, dtype=np.float32)], 16000, 16000)
    picture = Image.open(io.BytesIO(spectrogram_png(found.spectrogram_db, loud_level_db(found.spectrogram_db))))
    assert np.asarray(picture.convert("L")).min() == 255
