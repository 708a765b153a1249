"""Rooms for mixing: a bank of simulated rooms, made once, and the measured responses of a corpus."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auriscope.data.cache import AudioStore, open_clips, open_store
from auriscope.data.corpora import ImpulseResponse, impulse_responses
from auriscope.errors import CorpusError

FloatArray = NDArray[np.float32]

# What is kept before the direct sound, so that the flanks of its band-limited pulse are not cut.
_LEAD_SECONDS = 0.001
_PEAK = 0.9
_SOUND_METRES_PER_SECOND = 343.0


@dataclass(frozen=True)
class RoomBankConfig:
    """How simulated rooms are drawn: shoeboxes by the image method, one microphone, several talker positions.

    Everything is uniform over its range (metres, seconds): the room's length, width and height, the reverberation
    time (as far as the walls can give it), the microphone at 0.8 to 1.8 m height and at least 0.5 m from the walls,
    the talkers at 1 to 1.9 m height, 0.3 m from the walls and 0.4 to 4 m from the microphone. The ranges are those of
    WHAMR! (Maciejewski et al., arXiv 1910.10279, section 2.1) without its largest halls.
    """

    num_rooms: int = 240
    num_positions: int = 4
    length_metres: tuple[float, float] = (3.0, 9.0)
    width_metres: tuple[float, float] = (3.0, 7.0)
    height_metres: tuple[float, float] = (2.4, 3.8)
    rt60_seconds: tuple[float, float] = (0.12, 0.6)
    seed: int = 0


class Rooms:
    """Impulse responses grouped so that any two responses of a group could be two talkers in one recording.

    ``groups[g]`` lists the places of room ``g``: each a tuple of responses (indices into ``store``) that are the same
    position and must not be given to two talkers of one mixture. ``weights`` is how often each group is drawn.
    """

    def __init__(self, store: AudioStore, groups: list[list[tuple[int, ...]]], weights: list[float]) -> None:
        self.store = store
        self.groups = groups
        self.cumulative = np.cumsum(weights) / np.sum(weights)

    def draw(self, num_talkers: int, rng: np.random.Generator) -> tuple[int, ...]:
        """Draw a room and one response for each talker, every one from another position."""
        group = self.groups[int(np.searchsorted(self.cumulative, rng.random(), side="right"))]
        places = rng.permutation(len(group))[:num_talkers]
        if len(places) < num_talkers:
            raise CorpusError(f"a room has {len(group)} positions, too few for {num_talkers} talkers; use another bank")
        return tuple(group[place][int(rng.integers(len(group[place])))] for place in places)


def simulated_rooms(config: RoomBankConfig, *, sample_rate: int, folder: Path | None = None) -> Rooms:
    """Open the bank of simulated rooms, simulating it on first use (minutes; needs the extra ``augment``)."""
    key = hashlib.sha256(json.dumps([1, sample_rate, asdict(config)]).encode()).hexdigest()
    store = open_store(
        lambda: _simulate(config, sample_rate), key=key, sample_rate=sample_rate, name="rooms", folder=folder
    )
    groups: list[list[tuple[int, ...]]] = [
        [(room * config.num_positions + position,) for position in range(config.num_positions)]
        for room in range(config.num_rooms)
    ]
    return Rooms(store, groups, [1.0] * config.num_rooms)


def measured_rooms(split: str, *, sample_rate: int, root: Path | None = None, folder: Path | None = None) -> Rooms:
    """Open the measured responses of a split of the corpus ``rir``, each starting just before its direct sound.

    The recordings give one position each, so two talkers get two positions of the same kind of room (house,
    warehouse). A kind is drawn as often as it has positions.
    """
    responses = impulse_responses(split, root=root)
    decoded = open_clips(responses, sample_rate=sample_rate, name=f"rir-{split}", folder=folder)
    trimmed = [trim_response(decoded.read(clip), response, sample_rate) for clip, response in enumerate(responses)]
    groups = list(positions(responses).values())
    return Rooms(AudioStore.of(trimmed, sample_rate), groups, [float(len(group)) for group in groups])


def positions(responses: Sequence[ImpulseResponse]) -> dict[str, list[tuple[int, ...]]]:
    """Group measured responses: each kind of room to its positions, each a tuple of numbers of ``responses``."""
    kinds: dict[str, dict[str, list[int]]] = {}
    for number, response in enumerate(responses):
        # "kitchen" and "kitchen-leveled" are one measurement at two levels.
        position = response.position.removesuffix("-leveled").removesuffix("-levelled")
        kinds.setdefault(response.room, {}).setdefault(position, []).append(number)
    return {room: [tuple(numbers) for numbers in places.values()] for room, places in kinds.items()}


def trim_response(waveform: FloatArray, response: ImpulseResponse, sample_rate: int) -> FloatArray:
    """Cut a measured response (time,) to just before its direct sound: the delay of the set-up is not the room's."""
    direct = round(response.direct_frame * sample_rate / 16_000)
    return waveform[max(0, direct - round(_LEAD_SECONDS * sample_rate)) :]


def _simulate(config: RoomBankConfig, sample_rate: int) -> Iterator[FloatArray]:
    try:
        import pyroomacoustics
    except ImportError as error:
        raise CorpusError("simulated rooms need pyroomacoustics; install auriscope[augment]") from error
    for number in range(config.num_rooms):
        rng = np.random.default_rng([config.seed, number])
        size = np.array(
            [rng.uniform(*span) for span in (config.length_metres, config.width_metres, config.height_metres)]
        )
        rt60_seconds = rng.uniform(*config.rt60_seconds)
        absorption, order = _walls(rt60_seconds, size)
        room = pyroomacoustics.ShoeBox(
            size, fs=sample_rate, materials=pyroomacoustics.Material(absorption), max_order=order
        )
        microphone = np.array([rng.uniform(0.5, size[0] - 0.5), rng.uniform(0.5, size[1] - 0.5), rng.uniform(0.8, 1.8)])
        for _ in range(config.num_positions):
            room.add_source(_talker(rng, size, microphone))
        room.add_microphone(microphone)
        room.compute_rir()
        responses = room.rir[0]
        # The simulator delays all by the length of its interpolation filter; only the way to the nearest talker goes,
        # so that the differences between the talkers stay.
        first = min(int(np.argmax(np.abs(response) > 0.5 * np.abs(response).max())) for response in responses)
        first = max(0, first - round(_LEAD_SECONDS * sample_rate))
        for response in responses:
            response = response[first : first + round(1.2 * rt60_seconds * sample_rate) + 1]
            yield (response * (_PEAK / np.abs(response).max())).astype(np.float32)


def _walls(rt60_seconds: float, size: NDArray[np.float64]) -> tuple[float, int]:
    """Give absorption and reflection order for a reverberation time by Sabine's formula, as far as the walls can."""
    volume = float(np.prod(size))
    surface = 2.0 * float(size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    # Sabine: RT60 = 24 ln(10) V / (c S a). A large, dry room would need walls that absorb more than all.
    absorption = min(0.99, 24.0 * float(np.log(10.0)) * volume / (_SOUND_METRES_PER_SECOND * surface * rt60_seconds))
    # The image sources of this order enclose the distance that sound travels in RT60, along the two shortest sides.
    first, second = (float(side) for side in np.sort(size)[:2])
    reach = first * second / float(np.hypot(first, second))
    return absorption, int(np.ceil(_SOUND_METRES_PER_SECOND * rt60_seconds / reach - 1.0))


def _talker(
    rng: np.random.Generator, size: NDArray[np.float64], microphone: NDArray[np.float64]
) -> NDArray[np.float64]:
    while True:
        place = np.array([rng.uniform(0.3, size[0] - 0.3), rng.uniform(0.3, size[1] - 0.3), rng.uniform(1.0, 1.9)])
        if 0.4 <= np.linalg.norm(place - microphone) <= 4.0:
            return place
