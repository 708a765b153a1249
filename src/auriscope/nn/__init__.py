"""Layers that two or more rooms use."""

from __future__ import annotations

from auriscope.nn.conformer import Conformer
from auriscope.nn.masks import length_mask, run_recurrent

__all__ = ["Conformer", "length_mask", "run_recurrent"]
