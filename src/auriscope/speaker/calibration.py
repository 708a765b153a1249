"""From scores to decisions: a threshold, what a score means in probabilities, and how often the decision is wrong.

A score is made a logarithm of a likelihood ratio by a straight line, which logistic regression fits to trials whose
answer is known; half of them count as trials of one speaker, however many there are. Source: Brümmer and du Preez,
"Application-independent evaluation of speaker detection" (2006), sections 5 and 6. Without torch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.metrics.eer import equal_error_rate
from auriscope.pretrained.files import CALIBRATION_NAME, read_json
from auriscope.signal.outputs import written_aside

Array = NDArray[np.float64]

COSINE = "cosine"
"""The scoring that a model ships calibrated for."""

MIN_SPEAKERS = 8
"""Fewer say nothing of other people."""

_FORMAT_VERSION = 1
_NUM_FOLDS = 5
# Trials that are told apart without an error would have an infinite scale.
_RIDGE = 1e-4


@dataclass(frozen=True)
class Calibration:
    """What held-out trials say about the scores of a model.

    ``scale`` and ``offset`` make a score a logarithm of a likelihood ratio, natural. ``miss`` and ``false_alarm`` are
    how often the decision at :attr:`threshold` was wrong for people whom the line was not fitted to. ``eer`` is the
    equal error rate, ``trials`` what it was all measured on, ``scoring`` how scores were made, and ``weights_sha256``
    the checksum of the model's weights: with others it does not hold.
    """

    scale: float
    offset: float
    miss: float
    false_alarm: float
    eer: float
    num_speakers: int
    num_targets: int
    num_others: int
    scoring: str = COSINE
    trials: str = ""
    weights_sha256: str = ""

    @property
    def threshold(self) -> float:
        """The score above which one speaker is likelier than two."""
        return -self.offset / self.scale

    @property
    def expected_error(self) -> float:
        """The share of wrong decisions where one speaker is as frequent as two: the mean of both errors."""
        return (self.miss + self.false_alarm) / 2

    def log_likelihood_ratio(self, scores: Any) -> Array:
        """Give how much likelier one speaker is than two, as a natural logarithm: of the shape of ``scores``."""
        return self.scale * np.asarray(scores, dtype=np.float64) + self.offset

    def probability(self, score: float) -> float:
        """Give the probability of one speaker, 0 to 1, where one is as frequent as two."""
        return float(0.5 * (1.0 + np.tanh(self.log_likelihood_ratio(score) / 2)))

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        with written_aside(path) as aside:
            values = {"format_version": _FORMAT_VERSION, **dataclasses.asdict(self)}
            aside.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote; ``CheckpointError`` if it is missing or damaged."""
        if not path.is_file():
            raise CheckpointError(f"{path}: there is no such calibration")
        values = read_json(path)
        if values.pop("format_version", None) != _FORMAT_VERSION:
            raise CheckpointError(f"{path}: not a calibration that this auriscope reads; make it again")
        try:
            found: Self = TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            raise CheckpointError(f"{path}: not a valid calibration: {error.errors()[0]['msg']}") from error
        if not found.scale > 0:
            raise CheckpointError(f"{path}: not a valid calibration: the scale must be above zero")
        return found

    @classmethod
    def of(cls, folder: Path, weights_sha256: str) -> Self | None:
        """Give the calibration that lies in a model's folder; None if there is none, or it is of other weights."""
        path = folder / CALIBRATION_NAME
        if not path.is_file():
            return None
        found = cls.read(path)
        return found if found.weights_sha256 == weights_sha256 else None


def calibrate(
    scores: Any,
    targets: Any,
    first: Sequence[Any],
    second: Sequence[Any],
    *,
    seed: int = 0,
    scoring: str = COSINE,
    trials: str = "",
    weights_sha256: str = "",
) -> Calibration:
    """Fit a calibration to trials whose answer is known.

    ``scores`` (trials,), the higher the more alike; ``targets`` (trials,) true where both recordings are of one
    speaker; ``first`` and ``second`` (trials,) name the two speakers. The errors are measured by cross-validation over
    speakers: a fifth of them is judged by a line that was fitted to trials among the others. Raises ``AuriscopeError``
    with fewer than ``MIN_SPEAKERS``, without trials of both kinds, or if scores do not rise with likeness.
    """
    numbers, kinds = np.asarray(scores, dtype=np.float64), np.asarray(targets).astype(bool)
    names = list(dict.fromkeys([*first, *second]))
    if len(names) < MIN_SPEAKERS or not kinds.any() or kinds.all():
        raise AuriscopeError(
            f"a calibration needs trials of both kinds, of {MIN_SPEAKERS} speakers at least; "
            f"there are {int(kinds.sum())} of one and {int((~kinds).sum())} of two speakers, of {len(names)} in all"
        )
    rng = np.random.default_rng(seed)
    fold_of = dict(zip(names, rng.permutation(len(names)) % min(_NUM_FOLDS, len(names) // 2), strict=True))
    one, other = (np.array([fold_of[name] for name in side]) for side in (first, second))
    wrong = np.zeros(len(numbers), dtype=bool)
    judged = np.zeros(len(numbers), dtype=bool)
    for fold in range(max(fold_of.values()) + 1):
        held, kept = (one == fold) & (other == fold), (one != fold) & (other != fold)
        if kinds[kept].any() and not kinds[kept].all():
            scale, offset = fit_line(numbers[kept], kinds[kept])
            wrong[held] = (scale * numbers[held] + offset > 0) != kinds[held]
            judged |= held
    scale, offset = fit_line(numbers, kinds)
    if not scale > 0:
        raise AuriscopeError("scores of one speaker are not higher than those of two: there is nothing to calibrate")
    if not (judged & kinds).any() or not (judged & ~kinds).any():
        raise AuriscopeError("the trials are of too few pairs of speakers to tell how often decisions are wrong")
    return Calibration(
        scale=scale,
        offset=offset,
        miss=float(wrong[judged & kinds].mean()),
        false_alarm=float(wrong[judged & ~kinds].mean()),
        eer=equal_error_rate(numbers, kinds).value,
        num_speakers=len(names),
        num_targets=int(kinds.sum()),
        num_others=int((~kinds).sum()),
        scoring=scoring,
        trials=trials,
        weights_sha256=weights_sha256,
    )


def fit_line(scores: Array, targets: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit scale and offset by logistic regression, both kinds of trials counting alike; Newton's method.

    ``scores`` and ``targets`` are (trials,), with trials of both kinds. A weak penalty keeps the scale finite.
    """
    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    design = np.stack([(scores - middle) / spread, np.ones(len(scores))], axis=1)
    weights = np.where(targets, 0.5 / targets.sum(), 0.5 / (~targets).sum())
    penalty = np.array([_RIDGE, 0.0])

    def loss(line: Array) -> float:
        margins = np.where(targets, 1.0, -1.0) * (design @ line)
        return float(weights @ np.logaddexp(0.0, -margins) + 0.5 * (penalty * line**2).sum())

    line = np.zeros(2)
    for _ in range(100):
        likely = 0.5 * (1.0 + np.tanh(design @ line / 2))
        slope = design.T @ (weights * (likely - targets)) + penalty * line
        curvature = (design * (weights * likely * (1 - likely))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), slope)
        size = 1.0
        while loss(line - size * step) > loss(line) and size > 1e-6:
            size /= 2
        line = line - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return float(line[0] / spread), float(line[1] - line[0] * middle / spread)


def log_likelihood_ratio_cost(ratios: Any, targets: Any) -> float:
    """Give C_llr, how many bits log-likelihood ratios miss of the answer: 0 is perfect, 1 what says nothing gives.

    ``ratios`` (trials,), natural logarithms, ``targets`` (trials,). Source: Brümmer and du Preez (2006), equation 37.

    >>> log_likelihood_ratio_cost([0.0, 0.0], [True, False])
    1.0
    """
    numbers, kinds = np.asarray(ratios, dtype=np.float64), np.asarray(targets).astype(bool)
    of_targets, of_others = np.logaddexp(0.0, -numbers[kinds]).mean(), np.logaddexp(0.0, numbers[~kinds]).mean()
    return float((of_targets + of_others) / (2 * np.log(2.0)))
