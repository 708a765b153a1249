"""Random rooms, their impulse responses, and speech in them: augmentation on arrays, without torch.

Randomness is sampled first (``sample_room``) and applied after (``simulate``, ``convolve``), so that a room can be
stored, shown and made again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from auriscope.errors import AuriscopeError

FloatArray = npt.NDArray[np.float32]
Point = tuple[float, float, float]

SPEED_OF_SOUND = 343.0
# Absorbing all but a little: below this Sabine's formula asks for walls that absorb more than everything.
_LARGEST_ABSORPTION = 0.95
_LEVEL_SECONDS = 0.02


@dataclass(frozen=True)
class RoomConfig:
    """The ranges from which rooms are drawn, uniformly: (smallest, largest), in metres and seconds.

    ``rt60_seconds`` is the time in which sound decays by 60 dB; ``distance`` goes from the microphone to each source,
    ``separation`` is the least distance between two sources, ``wall_margin`` the least distance of all from the walls,
    ``height`` of microphone and mouths is drawn from ``source_height``. Reflections up to ``max_order`` are exact, the
    later ones a diffuse tail.
    """

    length: tuple[float, float] = (4.0, 9.0)
    width: tuple[float, float] = (3.0, 7.0)
    height: tuple[float, float] = (2.4, 3.5)
    rt60_seconds: tuple[float, float] = (0.15, 0.6)
    distance: tuple[float, float] = (0.5, 2.5)
    source_height: tuple[float, float] = (1.0, 1.8)
    separation: float = 0.5
    wall_margin: float = 0.4
    max_order: int = 15


@dataclass(frozen=True)
class Room:
    """One shoebox room with one microphone: sizes and positions in metres, the origin in a corner."""

    size: Point
    rt60_seconds: float
    microphone: Point
    sources: tuple[Point, ...]
    max_order: int
    tail_seed: int


@dataclass(frozen=True)
class ImpulseResponses:
    """The impulse responses of a room from each source to the microphone.

    ``responses`` is (sources, time) float32, in which the direct path has the amplitude 1 / distance in metres;
    ``direct_frames`` holds the sample of each response at which the direct path arrives.
    """

    responses: FloatArray
    direct_frames: tuple[int, ...]
    sample_rate: int


def sample_room(config: RoomConfig, rng: np.random.Generator, num_sources: int) -> Room:
    """Draw a room and the places in it.

    Args:
        config: the ranges.
        rng: where the randomness comes from; the same state gives the same room.
        num_sources: how many sources to place.

    Returns:
        The room. Its reverberation time is at least what walls that absorb nearly everything would give.

    Raises:
        ValueError: if the ranges leave no place for the sources.
    """
    for _ in range(1000):
        size = (rng.uniform(*config.length), rng.uniform(*config.width), rng.uniform(*config.height))
        low = np.full(3, config.wall_margin)
        high = np.asarray(size) - config.wall_margin
        if (low > high).any():
            continue
        microphone = rng.uniform(low, high)
        microphone[2] = rng.uniform(*config.source_height)
        places = _place_sources(config, rng, num_sources, microphone, low, high)
        if places is None:
            continue
        shortest = _sabine_seconds(size, _LARGEST_ABSORPTION)
        return Room(
            size=size,
            rt60_seconds=max(rng.uniform(*config.rt60_seconds), shortest),
            microphone=_point(microphone),
            sources=tuple(map(_point, places)),
            max_order=config.max_order,
            tail_seed=int(rng.integers(2**31)),
        )
    raise ValueError(f"found no room with places for {num_sources} sources in 1000 tries: widen the ranges of {config}")


def _place_sources(
    config: RoomConfig,
    rng: np.random.Generator,
    num_sources: int,
    microphone: npt.NDArray[np.float64],
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
) -> list[npt.NDArray[np.float64]] | None:
    """Draw places one after the other, or give up after some tries: this room is too small then."""
    places: list[npt.NDArray[np.float64]] = []
    for _ in range(20 * num_sources):
        if len(places) == num_sources:
            break
        rise = rng.uniform(*config.source_height) - microphone[2]
        distance, angle = rng.uniform(*config.distance), rng.uniform(0.0, 2.0 * math.pi)
        ground = math.sqrt(max(distance**2 - rise**2, 0.0))
        place = microphone + np.array([ground * math.cos(angle), ground * math.sin(angle), rise])
        away = np.linalg.norm(place - microphone)
        fits = (
            (place >= low).all() and (place <= high).all() and config.distance[0] <= away <= config.distance[1] + 1e-9
        )
        if fits and all(np.linalg.norm(place - other) >= config.separation for other in places):
            places.append(place)
    return places if len(places) == num_sources else None


def _point(place: npt.NDArray[np.float64]) -> Point:
    x, y, z = place.tolist()
    return (x, y, z)


def _sabine_seconds(size: Point, absorption: float) -> float:
    """Give the reverberation time by Sabine's formula, 24 ln 10 / c * V / (S a)."""
    x, y, z = size
    surface = 2.0 * (x * y + y * z + x * z)
    return 24.0 * math.log(10.0) / SPEED_OF_SOUND * (x * y * z) / (surface * absorption)


def simulate(room: Room, sample_rate: int) -> ImpulseResponses:
    """Simulate the impulse responses of a room: image sources for the early part, a diffuse tail after it.

    Args:
        room: as ``sample_room`` draws it.
        sample_rate: in hertz.

    Returns:
        Responses as long as the reverberation time after the direct path; the same for the same room.

    Raises:
        AuriscopeError: if pyroomacoustics, of the extra ``augment``, is not installed.
        ValueError: if ``max_order`` is too low for the late part to be joined to.

    Sources: Allen and Berkley 1979, Image method for efficiently simulating small-room acoustics (by
    pyroomacoustics); up to where all reflections are among those of ``max_order`` their result is kept, from there on
    Gaussian noise decays by 60 dB per reverberation time, joined at the level that the images have there (as in
    Lehmann and Johansson 2010, Diffuse reverberation model for efficient image-source simulation).
    """
    acoustics = _pyroomacoustics()
    # As Sabine's formula wants it: solved for the absorption of walls that are all alike.
    absorption = min(_sabine_seconds(room.size, 1.0) / room.rt60_seconds, 1.0)
    shoebox = acoustics.ShoeBox(
        room.size, fs=sample_rate, materials=acoustics.Material(absorption), max_order=room.max_order
    )
    for source in room.sources:
        shoebox.add_source(source)
    shoebox.add_microphone(room.microphone)
    shoebox.compute_rir()

    # pyroomacoustics centres its fractional delays in a filter of this length.
    offset = acoustics.constants.get("frac_delay_length") // 2
    delays = [math.dist(source, room.microphone) / SPEED_OF_SOUND for source in room.sources]
    num_frames = offset + math.ceil((room.rt60_seconds + max(delays)) * sample_rate)
    join = offset + int(_complete_seconds(room) * sample_rate)
    rng = np.random.default_rng(room.tail_seed)
    responses = np.zeros((len(room.sources), num_frames), dtype=np.float32)
    direct_frames = [offset + round(delay * sample_rate) for delay in delays]
    for response, images, direct in zip(responses, shoebox.rir[0], direct_frames, strict=True):
        images = images[: min(join, num_frames)]
        response[: len(images)] = images
        if join < num_frames:
            begin = max(join - round(_LEVEL_SECONDS * sample_rate), direct + round(0.005 * sample_rate))
            if begin >= join:
                raise ValueError(f"max_order {room.max_order} is too low: the direct path comes with the late part")
            response[join:] = _diffuse_tail(images[begin:], num_frames - join, room.rt60_seconds * sample_rate, rng)
    return ImpulseResponses(responses=responses, direct_frames=tuple(direct_frames), sample_rate=sample_rate)


def _complete_seconds(room: Room) -> float:
    """Say up to when all that arrives are reflections of at most ``max_order``.

    An image of n_i reflections along axis i of length d_i is at least (n_i - 1) d_i away along that axis. Over all n_i
    that sum to max_order + 1, the least distance is (max_order - 2) / sqrt(sum of 1 / d_i^2).
    """
    return (room.max_order - 2) / math.sqrt(sum(1.0 / size**2 for size in room.size)) / SPEED_OF_SOUND


def _diffuse_tail(
    before: npt.NDArray[np.floating[Any]], num_frames: int, rt60_frames: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draw decaying noise that goes on at the level of the stretch ``before`` it."""
    envelope_before = 10.0 ** (3.0 * np.arange(len(before), 0, -1) / rt60_frames)
    level = math.sqrt(float(np.sum(np.square(before, dtype=np.float64))) / float(np.sum(envelope_before**2)))
    return level * rng.standard_normal(num_frames) * 10.0 ** (-3.0 * np.arange(num_frames) / rt60_frames)


def _pyroomacoustics() -> Any:
    try:
        import pyroomacoustics
    except ImportError:
        raise AuriscopeError(
            "simulating rooms needs pyroomacoustics; install the extra with: pip install 'auriscope[augment]'"
        ) from None
    return pyroomacoustics


def convolve(waveform: FloatArray, response: FloatArray, direct_frame: int = 0) -> FloatArray:
    """Put a signal into a room, in time with the original: its direct path is not delayed.

    Args:
        waveform: (time,) dry signal.
        response: (response_time,) impulse response.
        direct_frame: the sample of the response that stands for no delay, less than response_time.

    Returns:
        (time,) float32; reverberation beyond the end is cut off.
    """
    if not 0 <= direct_frame < len(response):
        raise ValueError(f"direct_frame must be 0 to {len(response) - 1}, not {direct_frame}")
    num_frames = len(waveform) + len(response) - 1
    size = scipy.fft.next_fast_len(num_frames, real=True)
    spectrum = scipy.fft.rfft(waveform.astype(np.float32, copy=False), size)
    spectrum *= scipy.fft.rfft(response.astype(np.float32, copy=False), size)
    wet: FloatArray = scipy.fft.irfft(spectrum, size)[direct_frame : direct_frame + len(waveform)]
    return wet.astype(np.float32, copy=False)


def split_early_late(
    response: FloatArray, direct_frame: int, sample_rate: int, early_seconds: float = 0.05
) -> tuple[FloatArray, FloatArray]:
    """Split an impulse response into the early part, which helps to understand, and the late one, which does not.

    Args:
        response: (time,) impulse response.
        direct_frame: the sample at which the direct path arrives.
        sample_rate: in hertz.
        early_seconds: how long after the direct path the early part lasts; 50 ms as in ISO 3382's D50.

    Returns:
        Two responses, (time,) each, that sum to the given one.
    """
    border = direct_frame + round(early_seconds * sample_rate)
    early, late = response.copy(), response.copy()
    early[border:] = 0.0
    late[:border] = 0.0
    return early, late
