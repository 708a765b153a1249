"""Figures of recognisers: word and character error over a set, with intervals over utterances and over speakers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from auriscope.data.corpora import UNKNOWN_SPEAKER
from auriscope.data.spoken import Spoken, SpokenSet
from auriscope.data.transcribed import letters, padded
from auriscope.metrics.accumulate import Summary
from auriscope.metrics.wer import character_errors, word_errors
from auriscope.recognition.decoding import DecodingOptions, TokenLanguageModel, WordLanguageModel, decode
from auriscope.recognition.recognizer import Recognizer

Interval = tuple[float | None, float | None, float | None]
_BATCH_SECONDS = 60.0


def recognition_figures(
    recognizer: Recognizer,
    items: SpokenSet,
    on_progress: Callable[[float], None],
    *,
    options: DecodingOptions | None = None,
    language_model: TokenLanguageModel | WordLanguageModel | None = None,
) -> dict[str, Interval]:
    """Transcribe a set and compare with what was said, both in letters (:func:`~auriscope.data.transcribed.letters`).

    ``word_error_percent`` and ``character_error_percent`` are all edits over all that was said, in per cent, with 95 %
    intervals, utterances resampled. Where the set tells its speakers apart, and there are two at least, the same
    figures with ``_over_speakers`` have intervals for which whole speakers are resampled: what other people would get.
    """
    said, found = [], []
    for spoken, text in transcribed(recognizer, items, on_progress, options=options, language_model=language_model):
        said.append(spoken)
        found.append(letters(text))
    speakers = [spoken.speaker for spoken in said]
    known = all(name and name.rpartition(":")[2] != UNKNOWN_SPEAKER for name in speakers) and len(set(speakers)) > 1
    texts = [spoken.text for spoken in said]
    figures: dict[str, Interval] = {}
    for unit, errors in {"word": word_errors(found, texts), "character": character_errors(found, texts)}.items():
        figures[f"{unit}_error_percent"] = _percent(errors.interval())
        if known:
            figures[f"{unit}_error_percent_over_speakers"] = _percent(errors.interval(speakers))
    return figures


def transcribed(
    recognizer: Recognizer,
    items: SpokenSet,
    on_progress: Callable[[float], None],
    *,
    options: DecodingOptions | None = None,
    language_model: TokenLanguageModel | WordLanguageModel | None = None,
) -> Iterator[tuple[Spoken, str]]:
    """Transcribe every utterance of a set, in batches of about equal length: the utterance and the text found."""
    done, whole = 0.0, sum(items.seconds)
    for numbers in _batches(items.seconds):
        spoken = [items[number] for number in numbers]
        batch: dict[str, Any] = padded([item.waveform for item in spoken])
        hypotheses = decode(
            recognizer, batch["waveform"], batch["lengths"], options=options, language_model=language_model
        )
        for item, best in zip(spoken, hypotheses, strict=True):
            yield item, best[0].text
        done += sum(items.seconds[number] for number in numbers)
        on_progress(min(1.0, done / whole))


def _batches(seconds: Sequence[float]) -> list[list[int]]:
    """Sort utterances by length and cut them where a batch, padding included, would last longer than a minute."""
    batches: list[list[int]] = []
    for number in np.argsort(seconds, kind="stable").tolist():
        if not batches or seconds[number] * (len(batches[-1]) + 1) > _BATCH_SECONDS:
            batches.append([])
        batches[-1].append(number)
    return batches


def _percent(summary: Summary) -> Interval:
    mean, low, high = (None if share is None else 100 * share for share in (summary.mean, summary.low, summary.high))
    return mean, low, high
