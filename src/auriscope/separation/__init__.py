"""Separation: one mixture in, one track per talker out."""

from __future__ import annotations

from auriscope.separation.convtasnet import ConvTasNet, ConvTasNetConfig
from auriscope.separation.dprnn import DPRNN, DPRNNConfig
from auriscope.separation.sepformer import SepFormer, SepFormerConfig

__all__ = ["DPRNN", "ConvTasNet", "ConvTasNetConfig", "DPRNNConfig", "SepFormer", "SepFormerConfig"]
