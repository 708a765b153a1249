"""Blind estimators: how good is a separated track, without ground truth."""

from __future__ import annotations

from auriscope.quality.calibration import REASONS, Calibration, Prediction, coverage
from auriscope.quality.degrade import degrade, true_si_snr
from auriscope.quality.estimator import SiSnrConfig, SiSnrEstimator
from auriscope.quality.pool import Pool, QualityBatches, generate_pool
from auriscope.quality.realm import RealMConfig, RealMEstimator
from auriscope.quality.windows import WindowScores, predict_long

__all__ = [
    "REASONS",
    "Calibration",
    "Pool",
    "Prediction",
    "QualityBatches",
    "RealMConfig",
    "RealMEstimator",
    "SiSnrConfig",
    "SiSnrEstimator",
    "WindowScores",
    "coverage",
    "degrade",
    "generate_pool",
    "predict_long",
    "true_si_snr",
]
