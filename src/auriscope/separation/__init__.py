"""Separation: one mixture in, one track per talker out."""

from __future__ import annotations

from auriscope.separation.bandsplit import BandSplitConfig, BandSplitRNN
from auriscope.separation.convtasnet import ConvTasNet, ConvTasNetConfig
from auriscope.separation.dprnn import DPRNN, DPRNNConfig
from auriscope.separation.sepformer import SepFormer, SepFormerConfig
from auriscope.separation.vsunos import VSUNOS, VSUNOSConfig

__all__ = [
    "DPRNN",
    "VSUNOS",
    "BandSplitConfig",
    "BandSplitRNN",
    "ConvTasNet",
    "ConvTasNetConfig",
    "DPRNNConfig",
    "SepFormer",
    "SepFormerConfig",
    "VSUNOSConfig",
]
