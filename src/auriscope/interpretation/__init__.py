"""Interpretation: which part of an input made a classifier decide as it did."""

from __future__ import annotations

from auriscope.interpretation.baselines import BaselineConfig, GradCAM, Gradients, IntegratedGradients, Occlusion
from auriscope.interpretation.interpreter import (
    Interpretation,
    Interpreter,
    InterpreterConfig,
    Seen,
    TrainedInterpreter,
)
from auriscope.interpretation.lime import LIME, LIMEConfig
from auriscope.interpretation.methods import METHODS, interpreter_of

__all__ = [
    "LIME",
    "METHODS",
    "BaselineConfig",
    "GradCAM",
    "Gradients",
    "IntegratedGradients",
    "Interpretation",
    "Interpreter",
    "InterpreterConfig",
    "LIMEConfig",
    "Occlusion",
    "Seen",
    "TrainedInterpreter",
    "interpreter_of",
]
