"""What the figures mean, in plain words: verdicts on an estimate, levels, shares of time, names for people."""

from __future__ import annotations

import math

GAUGE_LOW_DB, GAUGE_HIGH_DB = -5.0, 25.0
"""Ends of the gauge: from worse than nothing gained to hardly any trace of the rest."""

BOUNDARIES_DB = (0.0, 7.0, 14.0)
"""Where one verdict turns into the next."""

_VERDICTS = (
    ("Not separated", "What does not belong to this talker is louder than the talker."),
    ("Poor", "The talker leads, but the rest is plainly heard beside the voice."),
    ("Usable", "The talker stands out clearly; traces of the rest are heard, mostly in pauses."),
    ("Clean", "Hardly anything but this talker is left."),
)


def verdict(blind_si_snr_db: float | None) -> tuple[str, str]:
    """Say what a blind estimate means: a short verdict, and one sentence.

    >>> verdict(9.1)[0], verdict(-2.0)[0], verdict(None)[0]
    ('Usable', 'Not separated', 'No estimate')
    """
    if blind_si_snr_db is None:
        return "No estimate", "There is too little sound here to judge."
    return _VERDICTS[sum(blind_si_snr_db >= boundary for boundary in BOUNDARIES_DB)]


def decibels(value: float | None, digits: int = 1) -> str:
    """Write decibels with a true minus sign; silence has none.

    >>> decibels(-3.04), decibels(None), decibels(float("-inf"))
    ('−3.0', '–', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    rounded = round(value, digits) + 0.0
    return f"{rounded:.{digits}f}".replace("-", "−")


def level(value_dbfs: float | None) -> str:
    """Write a level relative to full scale.

    >>> level(-23.01), level(None)
    ('−23.0 dBFS', 'silent')
    """
    return f"{decibels(value_dbfs)} dBFS" if value_dbfs is not None and math.isfinite(value_dbfs) else "silent"


def share(seconds: float, total_seconds: float) -> str:
    """Write how much of the time something takes.

    >>> share(12.0, 60.0), share(0.0, 60.0)
    ('12 s (20 %)', 'never')
    """
    if seconds <= 0 or total_seconds <= 0:
        return "never"
    percent = 100 * seconds / total_seconds
    return f"{duration(seconds)} ({'under 1' if percent < 1 else round(percent)} %)"


def percent(share: float | None) -> str:
    """Write a share as people do.

    >>> percent(0.873), percent(0.0004), percent(0.9999), percent(1.0), percent(None)
    ('87 %', 'under 1 %', 'over 99 %', '100 %', '–')
    """
    if share is None:
        return "–"
    if 0.0 < share < 0.005:
        return "under 1 %"
    return "over 99 %" if 0.995 < share < 1.0 else f"{100 * share:.0f} %"


def duration(seconds: float) -> str:
    """Write a length of time with the two units that matter.

    >>> duration(0.25), duration(65.2), duration(7260)
    ('0.2 s', '1 min 5 s', '2 h 1 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.05 else f"{1000 * seconds:.1f} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {round(whole % 3600 / 60)} min"


def frequency(hertz: float) -> str:
    """Write a frequency or a sample rate.

    >>> frequency(44100), frequency(800)
    ('44.1 kHz', '800 Hz')
    """
    return f"{hertz / 1000:g} kHz" if hertz >= 1000 else f"{hertz:g} Hz"


def count(number: int, noun: str) -> str:
    """Write a small number with its noun.

    >>> count(1, "talker"), count(2, "talker")
    ('1 talker', '2 talkers')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


UNSURE, DOUBTFUL = 0.5, 0.8
"""Below these confidences a word is marked: as a guess, and as one to check."""


def sureness(confidence: float) -> int:
    """Say how a word is marked: 0 not at all, 1 to be checked, 2 a guess.

    >>> sureness(0.95), sureness(0.6), sureness(0.1)
    (0, 1, 2)
    """
    return (confidence < UNSURE) + (confidence < DOUBTFUL)


def readable(word: str) -> str:
    """Write a word of a recogniser that knows capitals alone in small letters; others stay as they are.

    >>> [readable(word) for word in ("HELLO", "I", "I'LL", "Anna", "NASA's")]
    ['hello', 'I', "I'll", 'Anna', "NASA's"]
    """
    if not word.isupper():
        return word
    small = word.lower()
    return "I" + small[1:] if small == "i" or small.startswith("i'") else small
