"""Whether speech keeps to a voice: taken for the right person among others, and the same from any clip of that person.

Both are told from speaker embeddings, by the cosine; without torch. That a voice must not depend on which clip it was
taken from, nor on what is said in it, is what Y. Jia et al. ask of a synthesiser of unseen voices ("Transfer Learning
from Speaker Verification to Multispeaker Text-To-Speech Synthesis", arXiv 1806.04558, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auriscope.metrics.accumulate import Summary, summarize

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Likeness:
    """How like their voices pieces of speech are.

    ``scores`` (speech, voices) are cosines; ``right`` (speech,) whether the voice that it was to be scored higher than
    every other. ``target`` and ``others`` are the mean scores with the right voice and with the rest.
    """

    scores: Array
    right: NDArray[np.bool_]
    target: float
    others: float

    @property
    def share(self) -> float:
        """The share of the speech that is more like its own voice than like any other."""
        return float(self.right.mean())


def likeness(speech: Any, voices: Any, labels: Sequence[int]) -> Likeness:
    """Compare speech with the voices it was to have, and with others.

    Args:
        speech: (speech, dim), embeddings of what was synthesised.
        voices: (voices, dim), embeddings of real people, at best not of the clips that the speech was made from.
        labels: which of the voices each piece of speech was to have.

    >>> likeness([[1.0, 0.1], [0.9, 0.3]], [[1.0, 0.0], [0.0, 1.0]], [0, 1]).share
    0.5
    """
    made, real = _directions(speech), _directions(voices)
    targets = np.asarray(labels, dtype=np.int64)
    if len(real) < 2 or len(targets) != len(made):
        raise ValueError("there must be at least two voices, and a label for each piece of speech")
    scores = made @ real.T
    own = scores[np.arange(len(made)), targets]
    others = scores.copy()
    others[np.arange(len(made)), targets] = -np.inf
    rest = (scores.sum(1) - own) / (len(real) - 1)
    return Likeness(scores, own > others.max(1), float(own.mean()), float(rest.mean()))


@dataclass(frozen=True)
class Consistency:
    """How much speech in one voice depends on the clip that the voice was taken from.

    ``same_voice`` is the mean cosine of two pieces of speech made from different clips of one voice, with an interval
    over voices; ``other_voice`` that of pieces in different voices. The further apart the two, the less a clip matters
    beside the voice.
    """

    same_voice: Summary
    other_voice: float

    @property
    def margin(self) -> float:
        """The difference of both."""
        return float(self.same_voice.mean or 0.0) - self.other_voice


def clip_consistency(speech: Any, labels: Sequence[int]) -> Consistency:
    """Measure the invariance over clips of embeddings (speech, dim) of speech, each made from another clip.

    ``labels`` say whose voice a clip is; at least two voices, and two clips of one, are needed.
    """
    made, voices = _directions(speech), np.asarray(labels, dtype=np.int64)
    scores = made @ made.T
    same = voices[:, None] == voices[None]
    pairs = same & ~np.eye(len(made), dtype=bool)
    if not pairs.any() or same.all():
        raise ValueError("there must be at least two voices, and two clips of one of them")
    means = [float(scores[pairs & (voices == voice)[:, None]].mean()) for voice in np.unique(voices[pairs.any(1)])]
    return Consistency(summarize(means), float(scores[~same].mean()))


def _directions(embeddings: Any) -> Array:
    values = np.asarray(embeddings, dtype=np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if values.ndim != 2 or not (lengths > 0).all():
        raise ValueError("embeddings must be (number, dim), and not zero")
    directions: Array = values / lengths
    return directions
