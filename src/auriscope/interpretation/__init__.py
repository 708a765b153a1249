"""Interpretation: which part of an input made a classifier decide as it did."""

from __future__ import annotations

from auriscope.interpretation.interpreter import (
    Interpretation,
    Interpreter,
    InterpreterConfig,
    Seen,
    TrainedInterpreter,
)
from auriscope.interpretation.methods import METHODS, interpreter_of

__all__ = [
    "METHODS",
    "Interpretation",
    "Interpreter",
    "InterpreterConfig",
    "Seen",
    "TrainedInterpreter",
    "interpreter_of",
]
