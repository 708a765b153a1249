"""Separation: one mixture in, one track per talker out."""

from __future__ import annotations

from auriscope.separation.bandsplit import BandSplitConfig, BandSplitRNN
from auriscope.separation.convtasnet import ConvTasNet, ConvTasNetConfig
from auriscope.separation.counter import TalkerCountConfig, TalkerCountNet
from auriscope.separation.deepcasa import DeepCASA, DeepCASAConfig
from auriscope.separation.deepclustering import DeepClustering, DeepClusteringConfig
from auriscope.separation.dprnn import DPRNN, DPRNNConfig
from auriscope.separation.dptnet import DPTNet, DPTNetConfig
from auriscope.separation.furcanext import FurcaNeXt, FurcaNeXtConfig
from auriscope.separation.ica import ICA, ICAConfig
from auriscope.separation.maskdnn import MaskDNN, MaskDNNConfig
from auriscope.separation.nmf import NMF, NMFConfig
from auriscope.separation.resepformer import RESepFormer, RESepFormerConfig
from auriscope.separation.sepformer import SepFormer, SepFormerConfig
from auriscope.separation.signprediction import SignPredictionConfig, SignPredictionNet
from auriscope.separation.sudormrf import SuDoRMRF, SuDoRMRFConfig
from auriscope.separation.tasnet import TasNet, TasNetConfig
from auriscope.separation.twostep import TwoStep, TwoStepConfig
from auriscope.separation.vsunos import VSUNOS, VSUNOSConfig
from auriscope.separation.wavesplit import Wavesplit, WavesplitConfig

__all__ = [
    "DPRNN",
    "ICA",
    "NMF",
    "VSUNOS",
    "BandSplitConfig",
    "BandSplitRNN",
    "ConvTasNet",
    "ConvTasNetConfig",
    "DPRNNConfig",
    "DPTNet",
    "DPTNetConfig",
    "DeepCASA",
    "DeepCASAConfig",
    "DeepClustering",
    "DeepClusteringConfig",
    "FurcaNeXt",
    "FurcaNeXtConfig",
    "ICAConfig",
    "MaskDNN",
    "MaskDNNConfig",
    "NMFConfig",
    "RESepFormer",
    "RESepFormerConfig",
    "SepFormer",
    "SepFormerConfig",
    "SignPredictionConfig",
    "SignPredictionNet",
    "SuDoRMRF",
    "SuDoRMRFConfig",
    "TalkerCountConfig",
    "TalkerCountNet",
    "TasNet",
    "TasNetConfig",
    "TwoStep",
    "TwoStepConfig",
    "VSUNOSConfig",
    "Wavesplit",
    "WavesplitConfig",
]
