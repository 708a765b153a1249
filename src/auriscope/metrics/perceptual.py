"""What a listener would say of speech, computed from it and its clean version: PESQ for quality, STOI for words.

PESQ is computed by the library ``pesq`` (the reference C code of the ITU) and STOI by ``pystoi``, both of the extra
``perceptual``. Where a score is not defined it is NaN, and the reason stands beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from auriscope.errors import AuriscopeError

Band = Literal["narrow", "wide"]
_MISSING = "PESQ and STOI need the libraries pesq and pystoi; install auriscope[perceptual]"
_PESQ_SECONDS = 0.25


@dataclass(frozen=True)
class PerceptualScores:
    """``values`` (...) float64, NaN where a score is not defined, and the ``reasons``: None, or why not, in one line.

    ``reasons`` has an entry for every value, in the order of the flattened values.
    """

    values: Tensor
    reasons: tuple[str | None, ...]


def pesq(
    estimates: Tensor,
    references: Tensor,
    lengths: Tensor | None = None,
    *,
    sample_rate: int,
    band: Band = "wide",
) -> PerceptualScores:
    """Perceptual evaluation of speech quality: a predicted mean opinion score, from 1 to 4.55 or 4.64.

    Shapes: ``estimates`` and ``references`` (..., time), equal, in [-1, 1]; ``lengths`` (batch,) int64, the valid
    samples of each item along the first dimension; the values have the leading shape. Silent or non-finite signals,
    fewer than 0.25 s, and references without an utterance have no score. Levels are aligned: a gain changes nothing.

    Raises ``ValueError`` for shapes that do not fit and for another rate than 8000 or, for the wide band, than 16000
    Hz; :class:`~auriscope.errors.AuriscopeError` without the library.

    Source: ITU-T P.862 (2001) with the mapping of P.862.1 for the narrow band, P.862.2 (2007) for the wide band.
    """
    if sample_rate not in ((8000, 16000) if band == "narrow" else (16000,)):
        rates = "8000 or 16000" if band == "narrow" else "16000"
        raise ValueError(f"PESQ of the {band} band is defined at {rates} Hz, not at {sample_rate} Hz")
    try:
        import pesq as library
    except ImportError as error:
        raise AuriscopeError(_MISSING) from error
    mode = {"narrow": "nb", "wide": "wb"}[band]

    def score(estimate: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float | str:
        if len(reference) < _PESQ_SECONDS * sample_rate:
            return "PESQ needs 0.25 s of signal"
        try:
            return float(library.pesq(sample_rate, reference, estimate, mode))
        except library.NoUtterancesError:
            return "PESQ found no utterance in the reference"
        except library.PesqError as error:
            return f"PESQ failed: {error}"

    return _scores(score, estimates, references, lengths)


def stoi(
    estimates: Tensor,
    references: Tensor,
    lengths: Tensor | None = None,
    *,
    sample_rate: int,
    extended: bool = False,
) -> PerceptualScores:
    """Short-time objective intelligibility: how much of the words gets through, about 0 to 1.

    Shapes and undefined scores: see :func:`pesq`. What has fewer than 30 frames (0.4 s) of speech, once the reference's
    pauses are cut out, has no score. ``extended`` is ESTOI, which hears noise that comes and goes more as people do.
    Any sample rate; signals are resampled to 10 kHz.

    Raises ``ValueError`` for shapes that do not fit; :class:`~auriscope.errors.AuriscopeError` without the library.

    Source: Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy speech" (2011);
    Jensen and Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise maskers"
    (2016) for ESTOI.
    """
    try:
        import pystoi as library
    except ImportError as error:
        raise AuriscopeError(_MISSING) from error

    def score(estimate: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float | str:
        with warnings.catch_warnings():
            # The library warns and returns 1e-5 where there is nothing to measure; shorter than a frame, it fails.
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(library.stoi(reference, estimate, sample_rate, extended=extended))
            except (RuntimeWarning, ValueError, IndexError):
                return "STOI needs 0.4 s of speech"

    return _scores(score, estimates, references, lengths)


def _scores(
    score: Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], float | str],
    estimates: Tensor,
    references: Tensor,
    lengths: Tensor | None,
) -> PerceptualScores:
    """Score each pair; a text in the place of a number is the reason why there is none."""
    if estimates.shape != references.shape or estimates.dim() == 0:
        raise ValueError(f"estimates {tuple(estimates.shape)} and references {tuple(references.shape)} differ in shape")
    shape = estimates.shape[:-1]
    valid = torch.full(shape, estimates.shape[-1], dtype=torch.int64)
    if lengths is not None:
        if not shape or lengths.shape != shape[:1]:
            raise ValueError(f"lengths {tuple(lengths.shape)} are not one for each item of {tuple(estimates.shape)}")
        valid = lengths.cpu().reshape(-1, *(1 for _ in shape[1:])).expand(shape)
    values, reasons = [], []
    flat = (shape.numel(), estimates.shape[-1])
    pairs = (signal.detach().cpu().double().reshape(flat).numpy() for signal in (estimates, references))
    for estimate, reference, length in zip(*pairs, valid.reshape(-1).tolist(), strict=True):
        result = _unusable(estimate[:length], reference[:length]) or score(estimate[:length], reference[:length])
        values.append(float("nan") if isinstance(result, str) else result)
        reasons.append(result if isinstance(result, str) else None)
    return PerceptualScores(torch.tensor(values, dtype=torch.float64).reshape(shape), tuple(reasons))


def _unusable(estimate: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> str | None:
    for signal, name in ((reference, "reference"), (estimate, "estimate")):
        if not np.isfinite(signal).all():
            return f"the {name} holds NaN or infinity"
        if not signal.any():
            return f"the {name} is silent"
    return None
