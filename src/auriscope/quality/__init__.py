"""Blind estimators: how good is a separated track, without ground truth."""

from __future__ import annotations

from auriscope.quality.calibration import Prediction
from auriscope.quality.estimator import SiSnrConfig, SiSnrEstimator
from auriscope.quality.realm import RealMConfig, RealMEstimator

__all__ = ["Prediction", "RealMConfig", "RealMEstimator", "SiSnrConfig", "SiSnrEstimator"]
