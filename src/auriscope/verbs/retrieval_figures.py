"""Figures of retrieval: how well captions find their sounds among all of a set, and sounds their captions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.crossmodal.clap import CrossModal
from auriscope.crossmodal.windows import embed_recording
from auriscope.data.captioned import CAPTION_SETS, CaptionedSet, same_words
from auriscope.data.labelled_sets import SETS
from auriscope.data.prepared import is_prepared, kind_of
from auriscope.data.prepared_captioned import CAPTIONED
from auriscope.errors import AuriscopeError
from auriscope.metrics.retrieval import retrieval_rates

Interval = tuple[float | None, float | None, float | None]


def holds_captions(name: str) -> bool:
    """Whether a set's sounds have captions to be found by; a name that is also one of labelled sounds means those."""
    if name in SETS or not is_prepared(name):
        return name not in SETS and name in CAPTION_SETS
    return kind_of(name) == CAPTIONED


@torch.inference_mode()
def retrieval_figures(
    model: CrossModal, name: str, split: str, on_progress: Callable[[float], None]
) -> tuple[int, dict[str, Interval]]:
    """Tell how many sounds a set holds, and how well they are found, in per cent with 95 % intervals.

    ``text_to_sound_`` and ``sound_to_text_``: ``recall_at_1_percent``, at 5 and at 10, and ``map_at_10_percent``
    (:func:`~auriscope.metrics.retrieval.retrieval_values`). Queries of the former are all captions, each different one
    once; right is every sound of which that is said, in the same words. All of a sound is heard, by windows. For the
    intervals, whole recordings are resampled. ``AuriscopeError`` where there are fewer than two different captions.
    """
    sounds = CaptionedSet(name, split, sample_rate=model.sample_rate)
    said = [{same_words(caption): caption for caption in captions} for captions in sounds.captions]
    texts = {key: text for own in said for key, text in own.items()}
    if len(texts) < 2:
        raise AuriscopeError(f"{name}: has fewer than two different captions in {split}; there is nothing to find")
    audio = []
    for number, sound in enumerate(sounds):
        audio.append(embed_recording(model, torch.from_numpy(sound.waveform).to(model.device)).cpu())
        on_progress((number + 1) / len(sounds))
    scores = (model.embed_texts(list(texts.values())) @ torch.stack(audio).T).numpy()
    places = {key: number for number, key in enumerate(texts)}
    right: NDArray[np.bool_] = np.zeros(scores.shape, dtype=bool)
    for number, own in enumerate(said):
        right[[places[key] for key in own], number] = True
    # A caption goes with the recording of the first sound of which it is said.
    groups = [sounds.groups[number] for number in right.argmax(1)]
    figures = {}
    for direction, rates in (
        ("text_to_sound", retrieval_rates(scores, right, groups)),
        ("sound_to_text", retrieval_rates(scores.T, right.T, sounds.groups)),
    ):
        for rate, value in rates.items():
            ends = (value.mean, value.low, value.high)
            first, low, high = (None if end is None else 100.0 * end for end in ends)
            figures[f"{direction}_{rate}_percent"] = (first, low, high)
    return len(sounds), figures
