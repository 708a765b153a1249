"""Interpretation: which part of an input made a classifier decide as it did."""

from __future__ import annotations

from auriscope.interpretation.baselines import BaselineConfig, GradCAM, Gradients, IntegratedGradients, Occlusion
from auriscope.interpretation.flint import FLINT, FLINTConfig
from auriscope.interpretation.interpreter import (
    Interpretation,
    Interpreter,
    InterpreterConfig,
    Seen,
    TrainedInterpreter,
)
from auriscope.interpretation.l2i import L2I, L2IConfig
from auriscope.interpretation.lime import LIME, LIMEConfig
from auriscope.interpretation.lmac import LMAC, LMACConfig
from auriscope.interpretation.methods import METHODS, interpreter_of
from auriscope.interpretation.piq import PIQ, PIQConfig
from auriscope.interpretation.vibi import VIBI, VIBIConfig

__all__ = [
    "FLINT",
    "L2I",
    "LIME",
    "LMAC",
    "METHODS",
    "PIQ",
    "VIBI",
    "BaselineConfig",
    "FLINTConfig",
    "GradCAM",
    "Gradients",
    "IntegratedGradients",
    "Interpretation",
    "Interpreter",
    "InterpreterConfig",
    "L2IConfig",
    "LIMEConfig",
    "LMACConfig",
    "Occlusion",
    "PIQConfig",
    "Seen",
    "TrainedInterpreter",
    "VIBIConfig",
    "interpreter_of",
]
