"""How good an estimate is: pure functions over tensors, and what gathers their values.

Estimates come first, references second. Names are imported on first use, so that what needs no torch
(:mod:`auriscope.metrics.accumulate`) can be had without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auriscope.metrics.accumulate import Accumulator, Summary, summarize, summarize_ratio
    from auriscope.metrics.bss import BssEval, bss_eval, sdr
    from auriscope.metrics.classification import (
        accuracy,
        balanced_accuracy,
        classification_rates,
        macro_f1,
        mean_average_precision,
    )
    from auriscope.metrics.der import DiarizationErrors, diarization_errors
    from auriscope.metrics.eer import (
        DetCurve,
        OperatingPoint,
        VerificationRates,
        det_curve,
        equal_error_rate,
        min_dcf,
        verification_rates,
    )
    from auriscope.metrics.improvement import sdri, si_snri
    from auriscope.metrics.interpretation import (
        FrechetAccumulator,
        average_drop,
        average_gain,
        average_increase,
        complexity,
        faithfulness,
        frechet_distance,
        input_fidelity,
        interpretation_values,
        sparseness,
    )
    from auriscope.metrics.perceptual import PerceptualScores, pesq, stoi
    from auriscope.metrics.pit import (
        PitResult,
        best_permutation,
        pairwise,
        permute,
        pit_loss,
        pit_pairwise,
        pit_si_snr,
    )
    from auriscope.metrics.ratios import is_silent, sd_sdr, si_snr, snr
    from auriscope.metrics.retrieval import retrieval_rates, retrieval_values
    from auriscope.metrics.spectral import compressed_spectral_error
    from auriscope.metrics.wer import CharacterErrors, WordErrors, character_errors, word_errors

_HOMES = {
    "Accumulator": "accumulate",
    "BssEval": "bss",
    "CharacterErrors": "wer",
    "DetCurve": "eer",
    "DiarizationErrors": "der",
    "FrechetAccumulator": "interpretation",
    "OperatingPoint": "eer",
    "PerceptualScores": "perceptual",
    "PitResult": "pit",
    "Summary": "accumulate",
    "VerificationRates": "eer",
    "WordErrors": "wer",
    "accuracy": "classification",
    "average_drop": "interpretation",
    "average_gain": "interpretation",
    "average_increase": "interpretation",
    "balanced_accuracy": "classification",
    "best_permutation": "pit",
    "bss_eval": "bss",
    "character_errors": "wer",
    "classification_rates": "classification",
    "complexity": "interpretation",
    "compressed_spectral_error": "spectral",
    "det_curve": "eer",
    "diarization_errors": "der",
    "equal_error_rate": "eer",
    "faithfulness": "interpretation",
    "frechet_distance": "interpretation",
    "input_fidelity": "interpretation",
    "interpretation_values": "interpretation",
    "is_silent": "ratios",
    "macro_f1": "classification",
    "mean_average_precision": "classification",
    "min_dcf": "eer",
    "pairwise": "pit",
    "permute": "pit",
    "pesq": "perceptual",
    "pit_loss": "pit",
    "pit_pairwise": "pit",
    "pit_si_snr": "pit",
    "retrieval_rates": "retrieval",
    "retrieval_values": "retrieval",
    "sd_sdr": "ratios",
    "sdr": "bss",
    "sdri": "improvement",
    "si_snr": "ratios",
    "si_snri": "improvement",
    "snr": "ratios",
    "sparseness": "interpretation",
    "stoi": "perceptual",
    "summarize": "accumulate",
    "summarize_ratio": "accumulate",
    "verification_rates": "eer",
    "word_errors": "wer",
}

__all__ = [
    "Accumulator",
    "BssEval",
    "CharacterErrors",
    "DetCurve",
    "DiarizationErrors",
    "FrechetAccumulator",
    "OperatingPoint",
    "PerceptualScores",
    "PitResult",
    "Summary",
    "VerificationRates",
    "WordErrors",
    "accuracy",
    "average_drop",
    "average_gain",
    "average_increase",
    "balanced_accuracy",
    "best_permutation",
    "bss_eval",
    "character_errors",
    "classification_rates",
    "complexity",
    "compressed_spectral_error",
    "det_curve",
    "diarization_errors",
    "equal_error_rate",
    "faithfulness",
    "frechet_distance",
    "input_fidelity",
    "interpretation_values",
    "is_silent",
    "macro_f1",
    "mean_average_precision",
    "min_dcf",
    "pairwise",
    "permute",
    "pesq",
    "pit_loss",
    "pit_pairwise",
    "pit_si_snr",
    "retrieval_rates",
    "retrieval_values",
    "sd_sdr",
    "sdr",
    "sdri",
    "si_snr",
    "si_snri",
    "snr",
    "sparseness",
    "stoi",
    "summarize",
    "summarize_ratio",
    "verification_rates",
    "word_errors",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
