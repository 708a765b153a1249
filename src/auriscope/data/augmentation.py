"""Speech as in real life: at other speeds, in rooms and noise, through telephones and codecs.

Everything random is drawn first (:class:`Drawn`), and applied after.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from auriscope.data.pool import NoisePool, noise_pool
from auriscope.data.render import PEAK_LIMIT, NoiseDraw, change_speed, looped, rms
from auriscope.data.rooms import RoomBankConfig, Rooms, measured_rooms, simulated_rooms
from auriscope.errors import RecipeError
from auriscope.signal.rooms import convolve

FloatArray = NDArray[np.float32]

CODECS = ("mp3", "opus")
_CODEC_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
# The first samples that an MP3 without a header for gapless playing has too many: LAME's delay and the decoder's.
_MP3_DELAY_FRAMES = 576 + 529
_TELEPHONE_RATE = 8_000
_TELEPHONE_HZ = (300.0, 3_400.0)
_MU = 255.0


@dataclass(frozen=True)
class AugmentationConfig:
    """How speech is changed, and how often. Nothing is, unless a probability says so. Ranges are drawn from uniformly.

    Args:
        speed_factors: of tempo and pitch, one drawn for each utterance; (0.9, 1.0, 1.1) is usual (Ko et al. 2015,
            Audio augmentation for speech recognition).
        room_probability: how often the talker is in a room.
        measured_room_share: of the rooms, the share that is measured (corpus ``rir``) and not simulated.
        room_bank: the simulated rooms.
        noise_probability: how often there is noise.
        noise_corpora: names of noise corpora, each drawn as often as the others.
        snr_db: power of the speech over that of the noise, over the whole utterance.
        level_db: by how much the recording is turned up, as far as it does not clip.
        band_limit_probability: how often it goes through a telephone: 300 to 3,400 Hz, 8 kHz, 8 bits by the mu-law.
        codec_probability: how often it is coded and decoded.
        codecs: "mp3" and "opus", one drawn.
        kbps: bit rate of the codec, in 1,000 bits per second.
    """

    speed_factors: tuple[float, ...] = (1.0,)
    room_probability: float = 0.0
    measured_room_share: float = 0.5
    room_bank: RoomBankConfig = field(default_factory=RoomBankConfig)
    noise_probability: float = 0.0
    noise_corpora: tuple[str, ...] = ("noise",)
    snr_db: tuple[float, float] = (0.0, 20.0)
    level_db: tuple[float, float] = (0.0, 0.0)
    band_limit_probability: float = 0.0
    codec_probability: float = 0.0
    codecs: tuple[str, ...] = CODECS
    kbps: tuple[float, float] = (12.0, 48.0)

    def __post_init__(self) -> None:
        # Recipes come from YAML, which knows lists only.
        for name in ("speed_factors", "noise_corpora", "codecs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if not getattr(self, name):
                raise RecipeError(f"{name} must name one at least")
        for name in ("snr_db", "level_db", "kbps"):
            span = tuple(float(value) for value in getattr(self, name))
            if len(span) != 2 or not span[0] <= span[1]:
                raise RecipeError(f"{name} must be two numbers, the lower first; it is {getattr(self, name)}")
            object.__setattr__(self, name, span)
        shares = ("room_probability", "noise_probability", "band_limit_probability", "codec_probability")
        for name in (*shares, "measured_room_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise RecipeError(f"{name} must lie between 0 and 1; it is {getattr(self, name)}")
        if not all(0.25 <= factor <= 4.0 for factor in self.speed_factors):
            raise RecipeError(f"speed_factors must lie between 0.25 and 4; they are {self.speed_factors}")
        if unknown := set(self.codecs) - set(CODECS):
            raise RecipeError(f"there is no codec {min(unknown)!r}; there are: {', '.join(CODECS)}")
        if self.kbps[0] < 8.0:
            raise RecipeError(f"kbps must be 8 at least; it is {self.kbps}")


@dataclass(frozen=True)
class Drawn:
    """Everything that was random about one utterance; what is None or 0 is left as it is.

    ``response`` is a room response of the measured or the simulated rooms; ``codec`` a codec with its bit rate in
    1,000 bits per second.
    """

    speed: float = 1.0
    response: int | None = None
    measured_room: bool = False
    noise: NoiseDraw | None = None
    level_db: float = 0.0
    telephone: bool = False
    codec: tuple[str, float] | None = None


class Augmenter:
    """Changes utterances as a config says: speed, room, noise, level, telephone and codec, in this order.

    Rooms and codecs keep the timing: the direct sound stays where it was, so that word times hold (at another speed,
    divided by it). The first use decodes the noises and rooms into the cache (:mod:`auriscope.data.cache`).

    Args:
        config: what to do.
        split: "train", "valid" or "test", of the noises and of the measured rooms.
        sample_rate: of the waveforms, in hertz.
        root: folder of the corpora, by default where the environment says.
        folder: of the cache, likewise.

    Raises:
        CorpusError: noises or rooms are wanted and not there.
        RecipeError: codecs are wanted at a rate that they do not have.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        split: str,
        sample_rate: int,
        *,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.sample_rate = config, sample_rate
        if config.codec_probability > 0 and sample_rate not in _CODEC_RATES:
            rates = ", ".join(map(str, _CODEC_RATES))
            raise RecipeError(f"codecs work at {rates} Hz, not at {sample_rate} Hz; set codec_probability to 0")
        self.noises: NoisePool | None = None
        self.measured: Rooms | None = None
        self.simulated: Rooms | None = None
        if config.noise_probability > 0:
            self.noises = noise_pool(config.noise_corpora, split, sample_rate=sample_rate, root=root, folder=folder)
        if config.room_probability > 0 and config.measured_room_share > 0:
            self.measured = measured_rooms(split, sample_rate=sample_rate, root=root, folder=folder)
        if config.room_probability > 0 and config.measured_room_share < 1:
            self.simulated = simulated_rooms(config.room_bank, sample_rate=sample_rate, folder=folder)

    def draw(self, rng: np.random.Generator, num_frames: int) -> Drawn:
        """Draw what happens to an utterance of ``num_frames`` samples; the same state of ``rng`` draws the same."""
        config = self.config
        speed = config.speed_factors[int(rng.integers(len(config.speed_factors)))]
        response, measured_room, noise, codec = None, False, None, None
        if rng.random() < config.room_probability:
            measured_room = bool(rng.random() < config.measured_room_share)
            rooms = self.measured if measured_room else self.simulated
            response = rooms.draw(1, rng)[0] if rooms is not None else None
        if self.noises is not None and rng.random() < config.noise_probability:
            clip = self.noises.draw(rng)
            # A noise that is long enough is not cut and joined within the utterance.
            spare = self.noises.num_frames(clip) - round(num_frames / speed)
            start_frame = int(rng.integers(spare + 1 if spare >= 0 else self.noises.num_frames(clip)))
            noise = NoiseDraw(clip, start_frame, float(rng.uniform(*config.snr_db)))
        level_db = float(rng.uniform(*config.level_db))
        telephone = bool(rng.random() < config.band_limit_probability)
        if rng.random() < config.codec_probability:
            codec = (config.codecs[int(rng.integers(len(config.codecs)))], float(rng.uniform(*config.kbps)))
        return Drawn(speed, response, measured_room, noise, level_db, telephone, codec)

    def apply(self, waveform: FloatArray, drawn: Drawn) -> FloatArray:
        """Change a waveform (time,) float32 as drawn; only the speed changes its length, to time / speed."""
        if not len(waveform):
            return waveform
        changed = change_speed(waveform, drawn.speed)
        rooms = self.measured if drawn.measured_room else self.simulated
        if drawn.response is not None and rooms is not None:
            changed = in_room(changed, rooms.store.read(drawn.response))
        if drawn.noise is not None and self.noises is not None:
            noise = looped(self.noises.read(drawn.noise.clip), drawn.noise.start_frame, len(changed))
            changed = with_noise(changed, noise, drawn.noise.snr_db)
        changed = turned_up(changed, drawn.level_db)
        if drawn.telephone:
            changed = telephone(changed, self.sample_rate)
        if drawn.codec is not None:
            changed = coded(changed, self.sample_rate, *drawn.codec)
        return changed


def in_room(waveform: FloatArray, response: FloatArray) -> FloatArray:
    """Put a waveform (time,) into a room, as loud as it was and in time with it; the reverberation after it is cut off.

    ``response`` (frames,) may begin any time before its direct sound, the first value of at least half its largest
    magnitude.
    """
    magnitude = np.abs(response)
    wet = convolve(waveform, response, int(np.argmax(magnitude >= 0.5 * magnitude.max())))
    level = rms(wet)
    return wet * np.float32(rms(waveform) / level if level > 0.0 else 1.0)


def with_noise(waveform: FloatArray, noise: FloatArray, snr_db: float) -> FloatArray:
    """Add a noise (time,) of the waveform's length, scaled so that the waveform's power is ``snr_db`` above its own.

    Digital silence, of either, leaves the waveform as it is.
    """
    level = rms(noise)
    gain = rms(waveform) * 10.0 ** (-snr_db / 20.0) / level if level > 0.0 else 0.0
    return waveform + noise * np.float32(gain)


def telephone(waveform: FloatArray, sample_rate: int) -> FloatArray:
    """Send a waveform (time,) through a telephone: 300 to 3,400 Hz, 8 kHz, 8 bits by the mu-law of ITU-T G.711."""
    narrow = waveform
    if sample_rate != _TELEPHONE_RATE:
        narrow = soxr.resample(waveform, sample_rate, _TELEPHONE_RATE, quality="MQ")
    spectrum = np.fft.rfft(narrow)
    frequencies = np.fft.rfftfreq(len(narrow), 1.0 / _TELEPHONE_RATE)
    spectrum[(frequencies < _TELEPHONE_HZ[0]) | (frequencies > _TELEPHONE_HZ[1])] = 0.0
    passed = np.fft.irfft(spectrum, len(narrow)).clip(-1.0, 1.0)
    # 255 steps, even in the logarithm: zero is one of them.
    squeezed = np.sign(passed) * np.log1p(_MU * np.abs(passed)) / np.log1p(_MU)
    steps = np.round(squeezed * 127.0) / 127.0
    heard = (np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(_MU)) / _MU).astype(np.float32)
    if sample_rate != _TELEPHONE_RATE:
        heard = soxr.resample(heard, _TELEPHONE_RATE, sample_rate, quality="MQ")
    return _as_long(heard, len(waveform))


def coded(waveform: FloatArray, sample_rate: int, codec: str, kbps: float) -> FloatArray:
    """Code and decode a waveform (time,) by "mp3" or "opus" at about a bit rate, as long and in time as it was."""
    stream = io.BytesIO()
    if codec == "mp3":
        # libsndfile spreads its compression levels over the bit rates that MPEG 1, 2 and 2.5 have.
        low, high = (32, 320) if sample_rate >= 32_000 else (8, 160) if sample_rate >= 16_000 else (8, 64)
        mode = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT"}
    else:
        low, high = 6, 256
        mode = {"format": "OGG", "subtype": "OPUS"}
    # A level of 1 itself, the least rate, it refuses.
    level = min(0.999, 1.0 - (min(max(kbps, low), high) - low) / (high - low))
    soundfile.write(stream, waveform, sample_rate, compression_level=level, **mode)
    stream.seek(0)
    heard, _ = soundfile.read(stream, dtype="float32")
    if codec == "mp3" and len(heard) > len(waveform):
        heard = heard[_MP3_DELAY_FRAMES:]
    return _as_long(heard, len(waveform))


def turned_up(waveform: FloatArray, level_db: float) -> FloatArray:
    """Turn a waveform up, and down to ``PEAK_LIMIT`` where its peak would pass that."""
    peak = float(np.abs(waveform).max())
    return waveform * np.float32(min(10.0 ** (level_db / 20.0), PEAK_LIMIT / peak if peak > 0.0 else 1.0))


def _as_long(waveform: FloatArray, num_frames: int) -> FloatArray:
    """Cut a waveform, or fill it up with zeros."""
    missing = max(0, num_frames - len(waveform))
    fitted: FloatArray = np.pad(waveform, (0, missing))[:num_frames]
    return fitted
