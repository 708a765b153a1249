"""Dynamic mixing: endless mixtures of different talkers, each batch a function of the seed and its index alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from auriscope.data.ahead import made_ahead
from auriscope.data.pool import NoisePool, VoicePool, noise_pool, voice_pool
from auriscope.data.render import NUM_COLOURS, MixtureDraw, NoiseDraw, TalkerDraw, Target, render
from auriscope.data.rooms import RoomBankConfig, Rooms, measured_rooms, simulated_rooms
from auriscope.errors import RecipeError

DEFAULT_CORPORA = ("libri_251spk", "libri_other_10spk", "libri_readers_3spk", "commonvoice_en", "coffee_commands")


@dataclass(frozen=True)
class MixingConfig:
    """What mixtures are made of. Ranges are (low, high) and drawn from uniformly.

    Args:
        sample_rate: in hertz, of everything that comes out.
        num_sources: talkers in a mixture; with ``min_sources`` below it, a number drawn from that range.
        min_sources: see there; None: always ``num_sources``.
        segment_seconds: length of every mixture.
        batch_size: mixtures in a batch.
        corpora: names of speech corpora; "synthetic" needs no data.
        split: "train", "valid" or "test", of the speech, the noise and the measured rooms.
        level_difference_db: level of every talker but the first against the first, measured where they speak.
        speed: factor of tempo and pitch, for each talker; (1, 1) leaves the voices as they are.
        partial_overlap_probability: how often talkers overlap in part only. Of these mixtures, one half has one
            talker silent at the start or the end, for 0.2 to 0.7 of the time; in the other half, one talker begins and
            another ends, and 0.1 to 0.7 of the time they speak together.
        speaker_cap_seconds: a speaker is drawn in proportion to their seconds of speech, but at most this many.
        same_collection_probability: how often all talkers of a mixture are of one collection of recordings. Talkers of
            two can be told apart by their microphones and codecs, which no recording of real talkers allows.
        min_utterance_seconds: shorter utterances are left out.
        noise_probability: how often there is noise.
        noise_corpora: names of noise corpora, each drawn as often as the others.
        snr_db: power of all speech over that of the noise, over the whole mixture.
        noise_tilt_db_per_octave: how the spectrum of the noise is tilted: one recording of rain becomes many.
        noise_speed: how much faster the noise is played, tempo and pitch together, as likely twice as half as fast.
        noise_colour_db: how far random gains of the noise's spectrum, one for every octave or so and smooth between
            them, go up and down: of few recordings come noises of many colours, narrow ones too.
        babble_probability: how much of the noise has 3 to 10 further voices, 0 to 20 dB above the rest of it.
        room_probability: how often the talkers are in a room.
        target: what the sources are then: "image", with all reverberation, or "early", with the direct sound and the
            first 50 ms; what the target lacks of the image is then part of the noise.
        measured_room_share: of the rooms, the share that is measured (corpus ``rir``) and not simulated.
        room_bank: the simulated rooms.
        ramp_batches: the noise and room probabilities rise from zero at the first of these batches to their values at
            the second; None: they hold from the start. Training that meets easy mixtures first starts sooner.
        contrast_batches: up to the first of these batches, all mixtures are of a man and a woman as far as the sexes
            are known; from the second on, talkers meet as they are drawn. Permutation-invariant training leaves its
            plateau sooner where the talkers differ much. None: as they are drawn from the start.
        level_dbfs: RMS level of the mixture, as far as it does not clip: talkers near and far, timid gain settings.
    """

    sample_rate: int = 16_000
    num_sources: int = 2
    min_sources: int | None = None
    segment_seconds: float = 4.0
    batch_size: int = 8
    corpora: tuple[str, ...] = DEFAULT_CORPORA
    split: str = "train"
    level_difference_db: tuple[float, float] = (-5.0, 5.0)
    speed: tuple[float, float] = (0.9, 1.1)
    partial_overlap_probability: float = 0.2
    speaker_cap_seconds: float = 40.0
    same_collection_probability: float = 0.8
    min_utterance_seconds: float = 1.5
    noise_probability: float = 0.0
    noise_corpora: tuple[str, ...] = ("noise",)
    snr_db: tuple[float, float] = (0.0, 20.0)
    noise_tilt_db_per_octave: tuple[float, float] = (0.0, 0.0)
    noise_speed: tuple[float, float] = (1.0, 1.0)
    noise_colour_db: float = 0.0
    babble_probability: float = 0.0
    room_probability: float = 0.0
    target: Target = "image"
    measured_room_share: float = 0.2
    room_bank: RoomBankConfig = field(default_factory=RoomBankConfig)
    ramp_batches: tuple[int, int] | None = None
    contrast_batches: tuple[int, int] | None = None
    level_dbfs: tuple[float, float] = (-38.0, -18.0)

    def __post_init__(self) -> None:
        # Recipes come from YAML, which knows lists only.
        object.__setattr__(self, "corpora", tuple(self.corpora))
        object.__setattr__(self, "noise_corpora", tuple(self.noise_corpora))
        spans = ("level_difference_db", "speed", "snr_db", "level_dbfs", "noise_tilt_db_per_octave", "noise_speed")
        for name in spans:
            span = tuple(float(value) for value in getattr(self, name))
            if len(span) != 2 or not span[0] <= span[1]:
                raise RecipeError(f"{name} must be two numbers, the lower first; it is {getattr(self, name)}")
            object.__setattr__(self, name, span)
        shares = ("partial_overlap", "noise", "babble", "room", "same_collection")
        for name in (*(f"{share}_probability" for share in shares), "measured_room_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise RecipeError(f"{name} must lie between 0 and 1; it is {getattr(self, name)}")
        for name in ("sample_rate", "num_sources", "segment_seconds", "batch_size", "speaker_cap_seconds"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"{name} must be above zero; it is {getattr(self, name)}")
        for name in ("ramp_batches", "contrast_batches"):
            ramp = getattr(self, name)
            if ramp is not None and not 0 <= ramp[0] < ramp[1]:
                raise RecipeError(f"{name} must be two numbers, the lower first; it is {ramp}")
        for name in ("corpora", "noise_corpora"):
            if not getattr(self, name):
                raise RecipeError(f"{name} must name one corpus at least")
        if self.target not in get_args(Target):
            raise RecipeError(f"target must be one of {', '.join(get_args(Target))}; it is {self.target!r}")
        if self.min_sources is not None and not 1 <= self.min_sources <= self.num_sources:
            raise RecipeError(f"min_sources must lie between 1 and num_sources; it is {self.min_sources}")
        for name in ("speed", "noise_speed"):
            span = getattr(self, name)
            if not 0.25 <= span[0] <= span[1] <= 4.0:
                raise RecipeError(f"{name} must lie between 0.25 and 4; it is {span}")
        if not self.noise_colour_db >= 0.0:
            raise RecipeError(f"noise_colour_db must not be negative; it is {self.noise_colour_db}")

    @property
    def num_frames(self) -> int:
        """Length of a mixture in samples."""
        return round(self.segment_seconds * self.sample_rate)

    def hardness(self, index: int) -> float:
        """The share in [0, 1] of the noise and room probabilities that holds for a batch."""
        return 1.0 if self.ramp_batches is None else _risen(index, self.ramp_batches)

    def contrast(self, index: int) -> float:
        """The share in [0, 1] of a batch's mixtures whose talkers are of both sexes on purpose."""
        return 0.0 if self.contrast_batches is None else 1.0 - _risen(index, self.contrast_batches)


def _risen(index: int, ramp: tuple[int, int]) -> float:
    return min(1.0, max(0.0, (index - ramp[0]) / (ramp[1] - ramp[0])))


class DynamicMixer:
    """Batches of fresh mixtures, the same for the same (config, seed, index) whatever the worker, thread or run.

    ``batch(index)`` is ``{"mixture": (batch, time), "sources": (batch, num_sources, time), "noise": (batch, time)}``,
    float32, with mixture = sum of the sources + noise, and ``"lengths"`` and ``"num_sources"``, (batch,) int64.
    ``"speakers"``, (batch, num_sources) int64, are the talkers' numbers in ``voices``. Where a mixture has fewer
    talkers than ``config.num_sources``, the last sources are zero and their speakers -1.

    It is a batch source of the training loop: :meth:`iterate` gives the batches from any index on, made ahead by
    ``num_threads`` threads. Process r of n takes ``iterate(start + r, n)``, so that no two see the same mixture. The
    first use decodes the corpora into the cache (:mod:`auriscope.data.cache`).

    Raises :class:`~auriscope.errors.CorpusError` when the data are not there or not as the manifests say.
    """

    def __init__(
        self,
        config: MixingConfig,
        *,
        seed: int = 0,
        num_threads: int = 1,
        root: Path | None = None,
        folder: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.config = config
        self.seed = seed
        self.num_threads = num_threads
        rate = config.sample_rate
        self.voices = voice_pool(
            config.corpora,
            config.split,
            sample_rate=rate,
            cap_seconds=config.speaker_cap_seconds,
            min_seconds=config.min_utterance_seconds,
            root=root,
            folder=folder,
            progress=progress,
        )
        self.noises: NoisePool | None = None
        self.measured: Rooms | None = None
        self.simulated: Rooms | None = None
        if config.noise_probability > 0:
            self.noises = noise_pool(config.noise_corpora, config.split, sample_rate=rate, root=root, folder=folder)
        if config.room_probability > 0 and config.measured_room_share > 0:
            self.measured = measured_rooms(config.split, sample_rate=rate, root=root, folder=folder)
        if config.room_probability > 0 and config.measured_room_share < 1:
            self.simulated = simulated_rooms(config.room_bank, sample_rate=rate, folder=folder)

    def iterate(self, start: int = 0, stride: int = 1) -> Iterator[dict[str, Tensor]]:
        """Give the batches ``start``, ``start + stride``, ... without end, made ahead in the background.

        A run that was stopped after batch i goes on with ``start=i + 1`` and sees what it would have seen.
        """
        return made_ahead(self.batch, self.num_threads, start, stride)

    def batch(self, index: int) -> dict[str, Tensor]:
        """Make the batch with this index."""
        config = self.config
        shape = (config.batch_size, config.num_sources, config.num_frames)
        sources = np.zeros(shape, dtype=np.float32)
        noise = np.zeros((shape[0], shape[2]), dtype=np.float32)
        num_sources = np.zeros(shape[0], dtype=np.int64)
        speakers = np.full(shape[:2], -1, dtype=np.int64)
        for row in range(config.batch_size):
            draw = self.draw(index, row)
            images, noise[row] = self.render(draw)
            sources[row, : len(images)] = images
            num_sources[row] = len(images)
            speakers[row, : len(images)] = [talker.speaker for talker in draw.talkers]
        return {
            "mixture": torch.from_numpy(sources.sum(axis=1) + noise),
            "sources": torch.from_numpy(sources),
            "noise": torch.from_numpy(noise),
            "lengths": torch.full((config.batch_size,), config.num_frames, dtype=torch.int64),
            "num_sources": torch.from_numpy(num_sources),
            "speakers": torch.from_numpy(speakers),
        }

    def draw(self, index: int, row: int) -> MixtureDraw:
        """Draw everything that is random about one mixture of a batch."""
        rng = np.random.default_rng([self.seed, index, row])
        return draw_mixture(
            self.config,
            rng,
            self.voices,
            noises=self.noises,
            measured=self.measured,
            simulated=self.simulated,
            hardness=self.config.hardness(index),
            contrast=self.config.contrast(index),
        )

    def render(self, draw: MixtureDraw) -> tuple[np.ndarray, np.ndarray]:
        """Make the targets (talkers, time) and the noise (time,) of a draw."""
        rooms = self.measured if draw.measured_room else self.simulated
        return render(
            draw,
            self.config.num_frames,
            voices=self.voices,
            responses=rooms.store if rooms else None,
            noises=self.noises,
            target=self.config.target,
        )


def draw_mixture(
    config: MixingConfig,
    rng: np.random.Generator,
    voices: VoicePool,
    *,
    noises: NoisePool | None = None,
    measured: Rooms | None = None,
    simulated: Rooms | None = None,
    hardness: float = 1.0,
    contrast: float = 0.0,
) -> MixtureDraw:
    """Draw a mixture as ``config`` describes it, with ``hardness`` times its noise and room probabilities.

    ``contrast`` is the probability that its talkers are of both sexes on purpose.
    """
    fewest = config.num_sources if config.min_sources is None else config.min_sources
    num_talkers = int(rng.integers(fewest, config.num_sources, endpoint=True))
    responses: tuple[int | None, ...] = (None,) * num_talkers
    measured_room = False
    if rng.random() < hardness * config.room_probability:
        measured_room = bool(rng.random() < config.measured_room_share)
        rooms = measured if measured_room else simulated
        if rooms is not None:
            responses = rooms.draw(num_talkers, rng)
    active = _overlap(config, num_talkers, rng)
    talkers = []
    together = bool(rng.random() < config.same_collection_probability)
    # Drawn only where it is asked for, so that without it the mixtures of a seed stay what they were.
    contrasting = contrast > 0 and bool(rng.random() < contrast)
    drawn = voices.draw_voices(num_talkers, rng, together=together, contrasting=contrasting)
    for number, voice in enumerate(drawn):
        clip = voice.draw(rng)
        speed = float(rng.uniform(*config.speed))
        # Frames of the clip that a whole mixture takes; a shorter clip begins somewhere within the mixture.
        needed = int(np.ceil(config.num_frames * speed)) + 1
        spare = voices.num_frames(clip) - needed
        start_frame = int(rng.integers(spare + 1)) if spare > 0 else 0
        gap = int(-spare / speed) if spare < 0 else 0
        talkers.append(
            TalkerDraw(
                clip=clip,
                start_frame=start_frame,
                onset_frame=int(rng.integers(gap + 1)),
                active_frames=active[number],
                level_db=0.0 if number == 0 else float(rng.uniform(*config.level_difference_db)),
                speed=speed,
                response=responses[number],
                speaker=voice.number,
            )
        )
    noise = None
    if noises is not None and rng.random() < hardness * config.noise_probability:
        noise = _noise(config, rng, voices, noises)
    return MixtureDraw(tuple(talkers), float(rng.uniform(*config.level_dbfs)), noise, measured_room)


def _noise(config: MixingConfig, rng: np.random.Generator, voices: VoicePool, noises: NoisePool) -> NoiseDraw:
    clip = noises.draw(rng)
    start_frame, snr_db = int(rng.integers(noises.num_frames(clip))), float(rng.uniform(*config.snr_db))
    # What a recipe does not ask for draws no number, so that the mixtures of recipes before it stay the same.
    tilt, babble, babble_db, speed = 0.0, [], 0.0, 1.0
    colour: tuple[float, ...] = ()
    if config.noise_tilt_db_per_octave != (0.0, 0.0):
        tilt = float(rng.uniform(*config.noise_tilt_db_per_octave))
    if config.babble_probability > 0 and rng.random() < config.babble_probability:
        for _ in range(int(rng.integers(3, 10, endpoint=True))):
            spoken = voices.draw_voices(1, rng)[0].draw(rng)
            babble.append((spoken, int(rng.integers(voices.num_frames(spoken)))))
        babble_db = float(rng.uniform(0.0, 20.0))
    if config.noise_speed != (1.0, 1.0):
        speed = float(np.exp(rng.uniform(*np.log(config.noise_speed))))
    if config.noise_colour_db > 0:
        colour = tuple(rng.uniform(-config.noise_colour_db, config.noise_colour_db, NUM_COLOURS).tolist())
    return NoiseDraw(clip, start_frame, snr_db, tilt, tuple(babble), babble_db, speed, colour)


def _overlap(config: MixingConfig, num_talkers: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw which frames of the mixture each talker may speak in."""
    frames = config.num_frames
    active = [(0, frames)] * num_talkers
    if num_talkers < 2 or rng.random() >= config.partial_overlap_probability:
        return active
    one, other = (int(number) for number in rng.permutation(num_talkers)[:2])
    if rng.random() < 0.5:
        silent = int(frames * rng.uniform(0.2, 0.7))
        active[one] = (silent, frames) if rng.random() < 0.5 else (0, frames - silent)
    else:
        together = int(frames * rng.uniform(0.1, 0.7))
        begin = int((frames - together) * rng.uniform(0.2, 0.8))
        active[one], active[other] = (0, begin + together), (begin, frames)
    return active
