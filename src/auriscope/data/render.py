"""Applying a draw: what one mixture is made of, as data, and the pure function that makes it sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray

from auriscope.data.cache import AudioStore
from auriscope.signal.rooms import split_early_late

FloatArray = NDArray[np.float32]
Target = Literal["image", "early"]

PEAK_LIMIT = 0.97
_FADE_SECONDS = 0.01
_FRAME_SECONDS = 0.02
_SILENCE_DB = 40.0
_TILT_HZ = 1000.0
_LOWEST_HZ = 60.0
NUM_COLOURS = 9
"""At so many frequencies noise is coloured."""


class ClipReader(Protocol):
    """What gives stretches of clips: an :class:`~auriscope.data.cache.AudioStore`, or several behind one numbering."""

    sample_rate: int

    def read(self, clip: int, start_frame: int = 0, num_frames: int | None = None) -> FloatArray:
        """Return (time,) float32 of a clip, shorter than ``num_frames`` where it ends."""
        ...


@dataclass(frozen=True)
class TalkerDraw:
    """One talker of a mixture.

    ``clip`` is read from ``start_frame`` on, played ``speed`` times as fast, and put at ``onset_frame`` of the
    mixture; only ``active_frames`` (first, after the last) of the mixture are kept of it. ``level_db`` is its level
    against the other talkers, measured where it speaks. ``response`` is its room response, None outside of rooms;
    ``speaker`` is whose voice it is, by number in the pool, -1 where there is none.
    """

    clip: int
    start_frame: int
    onset_frame: int
    active_frames: tuple[int, int]
    level_db: float
    speed: float = 1.0
    response: int | None = None
    speaker: int = -1


@dataclass(frozen=True)
class NoiseDraw:
    """The noise of a mixture: ``clip`` from ``start_frame`` on, repeated if short, ``snr_db`` below all speech.

    ``tilt_db_per_octave`` is how its spectrum is tilted. ``babble`` are clips of voices and the frames they start at,
    whose sum is put ``babble_db`` above the clip. The clip is played at ``speed``; ``colour`` are gains in dB at
    ``NUM_COLOURS`` frequencies, evenly spread over octaves from 60 Hz to half the sample rate; empty: level.
    """

    clip: int
    start_frame: int
    snr_db: float
    tilt_db_per_octave: float = 0.0
    babble: tuple[tuple[int, int], ...] = ()
    babble_db: float = 0.0
    speed: float = 1.0
    colour: tuple[float, ...] = ()


@dataclass(frozen=True)
class MixtureDraw:
    """Everything that was random about one mixture.

    ``measured_room`` tells which bank the responses of the talkers index; ``level_dbfs`` is the RMS level of the
    mixture.
    """

    talkers: tuple[TalkerDraw, ...]
    level_dbfs: float
    noise: NoiseDraw | None = None
    measured_room: bool = False


def render(
    draw: MixtureDraw,
    num_frames: int,
    *,
    voices: ClipReader,
    responses: AudioStore | None = None,
    noises: ClipReader | None = None,
    target: Target = "image",
) -> tuple[FloatArray, FloatArray]:
    """Make the targets of the talkers, (talkers, time) float32, and the noise, (time,); the mixture is their sum.

    Images are what reaches the microphone: with the room's reverberation where the draw has a room. The target
    "early" keeps of the room what :func:`early_part` does; the late reverberation is then part of the noise. The
    mixture has the drawn RMS level unless its peak would pass ``PEAK_LIMIT``; then everything is turned down together.
    """
    images = np.zeros((len(draw.talkers), num_frames), dtype=np.float32)
    late = np.zeros(num_frames, dtype=np.float32)
    for image, talker in zip(images, draw.talkers, strict=True):
        wet = dry = _dry(talker, num_frames, voices)
        if talker.response is not None and responses is not None:
            response = responses.read(talker.response, 0, num_frames)
            wet = reverberate(dry, response)
            dry = reverberate(dry, early_part(response, voices.sample_rate)) if target == "early" else wet
        gain = np.float32(_gain(active_rms(wet, voices.sample_rate), talker.level_db))
        image[:] = dry * gain
        late += wet * gain - image
    noise = np.zeros(num_frames, dtype=np.float32)
    if draw.noise is not None and noises is not None:
        raw = _noise(draw.noise, num_frames, noises, voices)
        noise = raw * np.float32(_gain(rms(raw), _level_db(rms(images.sum(axis=0) + late)) - draw.noise.snr_db))
    noise += late
    gain = safe_gain(images.sum(axis=0) + noise, draw.level_dbfs)
    return images * gain, noise * gain


def safe_gain(mixture: FloatArray, level_dbfs: float) -> np.float32:
    """Give the gain that brings a mixture (time,) to an RMS level, or less where its peak would pass ``PEAK_LIMIT``."""
    level = rms(mixture)
    if level <= 0.0:
        return np.float32(1.0)
    return np.float32(min(10.0 ** (level_dbfs / 20.0) / level, PEAK_LIMIT / float(np.abs(mixture).max())))


def reverberate(dry: FloatArray, response: FloatArray) -> FloatArray:
    """Convolve a waveform (time,) with a response (frames,), cut to the waveform's length."""
    size = scipy.fft.next_fast_len(len(dry) + len(response) - 1, real=True)
    spectrum = scipy.fft.rfft(dry, size) * scipy.fft.rfft(response, size)
    wet: FloatArray = scipy.fft.irfft(spectrum, size)[: len(dry)].astype(np.float32, copy=False)
    return wet


def early_part(response: FloatArray, sample_rate: int) -> FloatArray:
    """Keep of a room response (frames,) the direct sound and what follows it within 50 ms.

    The direct sound is the first value of at least half the largest magnitude.
    """
    magnitude = np.abs(response)
    direct = int(np.argmax(magnitude >= 0.5 * magnitude.max())) if len(response) else 0
    return split_early_late(response, direct, sample_rate)[0]


def tilted(waveform: FloatArray, sample_rate: int, tilt_db_per_octave: float) -> FloatArray:
    """Tilt the spectrum of a waveform (time,) around 1 kHz; below 50 Hz it stays level."""
    frequencies = np.fft.rfftfreq(len(waveform), 1.0 / sample_rate).clip(50.0)
    return _weighed(waveform, 10.0 ** (tilt_db_per_octave / 20.0 * np.log2(frequencies / _TILT_HZ)))


def coloured(waveform: FloatArray, sample_rate: int, gains_db: tuple[float, ...]) -> FloatArray:
    """Give the spectrum of a waveform (time,) these gains, from 60 Hz to half the rate, evenly over octaves."""
    octaves = np.log2(np.fft.rfftfreq(len(waveform), 1.0 / sample_rate).clip(_LOWEST_HZ))
    places = np.linspace(np.log2(_LOWEST_HZ), np.log2(sample_rate / 2), len(gains_db))
    return _weighed(waveform, 10.0 ** (np.interp(octaves, places, gains_db) / 20.0))


def _weighed(waveform: FloatArray, gains: NDArray[np.float64]) -> FloatArray:
    """Multiply the spectrum of a waveform (time,) by a gain for each of its frequencies."""
    spectrum = scipy.fft.rfft(waveform) * gains.astype(np.float32)
    changed: FloatArray = scipy.fft.irfft(spectrum, len(waveform)).astype(np.float32, copy=False)
    return changed


def rms(waveform: FloatArray) -> float:
    """Return the root mean square of a waveform (time,)."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if len(waveform) else 0.0


def active_rms(waveform: FloatArray, sample_rate: int) -> float:
    """Return the root mean square of a waveform (time,) over its active 20 ms frames, 0 for digital silence.

    Active are the frames within 40 dB of the loudest: pauses should not make a talker louder.
    """
    size = max(1, round(_FRAME_SECONDS * sample_rate))
    if len(waveform) < size:
        return rms(waveform)
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    powers = np.einsum("ft,ft->f", frames, frames, dtype=np.float64) / size
    active = powers[powers > powers.max() * 10.0 ** (-_SILENCE_DB / 10.0)]
    return float(np.sqrt(active.mean())) if len(active) else 0.0


def looped(waveform: FloatArray, start_frame: int, num_frames: int) -> FloatArray:
    """Return ``num_frames`` of a waveform from ``start_frame`` on, starting over where it ends."""
    if start_frame + num_frames <= len(waveform):
        return waveform[start_frame : start_frame + num_frames]
    return np.take(waveform, np.arange(start_frame, start_frame + num_frames), mode="wrap")


def change_speed(waveform: FloatArray, speed: float) -> FloatArray:
    """Play a waveform (time,) ``speed`` times as fast, tempo and pitch together, by soxr's medium quality."""
    if speed == 1.0 or len(waveform) == 0:
        return waveform
    changed: FloatArray = soxr.resample(waveform, speed, 1.0, quality="MQ")
    return changed


def _dry(talker: TalkerDraw, num_frames: int, voices: ClipReader) -> FloatArray:
    room = num_frames - talker.onset_frame
    waveform = voices.read(talker.clip, talker.start_frame, int(np.ceil(room * talker.speed)) + 1)
    waveform = change_speed(waveform, talker.speed)[:room]
    dry = np.zeros(num_frames, dtype=np.float32)
    dry[talker.onset_frame : talker.onset_frame + len(waveform)] = waveform
    first, last = talker.active_frames
    fade = min(round(_FADE_SECONDS * voices.sample_rate), (last - first) // 2)
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    if first > 0:
        dry[:first] = 0.0
        dry[first : first + fade] *= ramp
    if last < num_frames:
        dry[last:] = 0.0
        dry[last - fade : last] *= ramp[::-1]
    return dry


def _noise(draw: NoiseDraw, num_frames: int, noises: ClipReader, voices: ClipReader) -> FloatArray:
    noise = looped(noises.read(draw.clip), draw.start_frame, int(np.ceil(num_frames * draw.speed)) + 1)
    noise = change_speed(noise, draw.speed)[:num_frames]
    if draw.colour:
        noise = coloured(noise, voices.sample_rate, draw.colour)
    if draw.babble:
        babble = np.zeros(num_frames, dtype=np.float32)
        for clip, start_frame in draw.babble:
            voice = looped(voices.read(clip), start_frame, num_frames)
            babble += voice * np.float32(_gain(rms(voice), 0.0))
        noise = noise * np.float32(_gain(rms(noise), -draw.babble_db)) + babble * np.float32(_gain(rms(babble), 0.0))
    return tilted(noise, voices.sample_rate, draw.tilt_db_per_octave) if draw.tilt_db_per_octave else noise


def _gain(level: float, target_db: float) -> float:
    """The factor from a level to another; 0 for digital silence, which has none."""
    return 10.0 ** (target_db / 20.0) / level if level > 0.0 else 0.0


def _level_db(level: float) -> float:
    # Silent speech leaves no level to relate the noise to; -60 dB keeps it small and finite.
    return 20.0 * float(np.log10(max(level, 1e-3)))
