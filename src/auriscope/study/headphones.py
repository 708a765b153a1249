"""Do raters wear headphones? The test of Woods et al. (2017), with sounds made here.

A trial is three tones of 200 Hz, one after the other; which one is the quietest? One is 6 dB below the others, and one
has opposite signs in the two channels: over loudspeakers it cancels in the air and seems the quietest, over headphones
it does not. K. J. P. Woods, M. H. Siegel, J. Traer, J. H. McDermott: Headphone screening to facilitate web-based
auditory experiments. Attention, Perception, and Psychophysics 79 (2017).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from itertools import permutations
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from auriscope.study.campaign import Listening
from auriscope.study.ids import now
from auriscope.study.schema import Session

MAX_ATTEMPTS = 2
TEST = "antiphase-200hz"

_SAMPLE_RATE = 16000
_FREQUENCY = 200.0
_TONE_SECONDS, _RAMP_SECONDS, _PAUSE_SECONDS = 1.0, 0.1, 0.5
_AMPLITUDE = 0.35
_QUIETER_DB = -6.0
# A rater who guesses passes 3 of 3 in 4 % of cases, and 5 of 6 in 2 %.
_NEEDED = {3: 3, 6: 5}

Order = tuple[str, ...]


def orders(seed: int, attempt: int, num_trials: int) -> list[Order]:
    """Give the order of the three tones in each trial: the quiet one is first, second and third equally often.

    >>> sorted(order.index("quiet") for order in orders(1, 0, 6))
    [0, 0, 1, 1, 2, 2]
    """
    random = Random(f"headphones {seed} {attempt}")
    by_place: dict[int, list[Order]] = {}
    for order in permutations(("quiet", "plain", "opposite")):
        by_place.setdefault(order.index("quiet"), []).append(order)
    chosen: list[Order] = []
    for found in by_place.values():
        chosen += random.sample(found, num_trials // 3)
    random.shuffle(chosen)
    return chosen


@cache
def tones(order: Order) -> bytes:
    """Give the sound of a trial: a stereo WAV of 16 bits."""
    pause = np.zeros((round(_PAUSE_SECONDS * _SAMPLE_RATE), 2))
    pieces: list[npt.NDArray[np.float64]] = []
    for kind in order:
        tone = _tone() * 10.0 ** ((_QUIETER_DB if kind == "quiet" else 0.0) / 20.0)
        right = -tone if kind == "opposite" else tone
        pieces += [np.stack([tone, right], axis=1), pause]
    return _wav(np.concatenate(pieces[:-1]))


@cache
def level_noise() -> bytes:
    """Give the noise to which raters set their volume: four seconds, stereo, with as much power in every octave."""
    generator = np.random.default_rng(2017)
    num_frames = 4 * _SAMPLE_RATE
    spectrum = np.fft.rfft(generator.standard_normal(num_frames))
    frequencies = np.fft.rfftfreq(num_frames, 1.0 / _SAMPLE_RATE)
    spectrum[frequencies < 60.0] = 0.0
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, 60.0)), num_frames)
    noise *= 0.08 / np.sqrt(np.mean(noise**2))
    ramp = np.minimum(1.0, np.arange(num_frames) / (0.1 * _SAMPLE_RATE))
    noise *= ramp * ramp[::-1]
    return _wav(np.stack([noise, noise], axis=1))


def _tone() -> npt.NDArray[np.float64]:
    time = np.arange(round(_TONE_SECONDS * _SAMPLE_RATE)) / _SAMPLE_RATE
    ramp = np.minimum(1.0, np.minimum(time, time[::-1]) / _RAMP_SECONDS)
    tone: npt.NDArray[np.float64] = np.sin(2.0 * np.pi * _FREQUENCY * time) * np.sin(0.5 * np.pi * ramp) ** 2
    return tone * _AMPLITUDE


def _wav(frames: npt.NDArray[np.float64]) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.clip(frames, -1.0, 1.0), _SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def attempts_of(visit: Session) -> list[dict[str, Any]]:
    """Give the attempts that a rater has made, oldest first."""
    found = (visit.equipment or {}).get("headphones", {}).get("attempts", [])
    return list(found)


def is_due(campaign: Listening, visit: Session) -> bool:
    """Say whether a rater has still to do the check: it was neither passed nor failed twice."""
    attempts = attempts_of(visit)
    return campaign.headphone_check and len(attempts) < MAX_ATTEMPTS and not any(a["passed"] for a in attempts)


def is_screened_out(campaign: Listening, visit: Session) -> bool:
    """Say whether a rater cannot go on, because headphones are required and the check was failed."""
    if not (campaign.headphone_check and campaign.headphones_required) or is_due(campaign, visit):
        return False
    return not any(attempt["passed"] for attempt in attempts_of(visit))


def judge(campaign: Listening, visit: Session, answers: Sequence[int]) -> dict[str, Any]:
    """Judge the answers (1 to 3 by trial) of the attempt that is due; gives it as it is kept."""
    expected = orders(visit.seed, len(attempts_of(visit)), campaign.headphone_trials)
    correct = sum(answer == order.index("quiet") + 1 for answer, order in zip(answers, expected, strict=True))
    return {
        "answers": list(answers),
        "correct": correct,
        "passed": correct >= _NEEDED[campaign.headphone_trials],
        "at": now().isoformat(timespec="seconds"),
    }


def with_attempt(campaign: Listening, visit: Session, attempt: dict[str, Any]) -> dict[str, Any]:
    """Give the session's equipment with one more attempt."""
    attempts = [*attempts_of(visit), attempt]
    summary = {
        "test": TEST,
        "num_trials": campaign.headphone_trials,
        "attempts": attempts,
        "passed": any(made["passed"] for made in attempts),
    }
    return {**(visit.equipment or {}), "headphones": summary}
