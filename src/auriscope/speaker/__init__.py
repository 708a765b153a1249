"""Speaker: who speaks. Recordings to embeddings, and what is told from them."""

from __future__ import annotations

from auriscope.speaker.ecapa import ECAPA, ECAPAConfig
from auriscope.speaker.embedder import Embedder, EmbedderConfig
from auriscope.speaker.plda import Plda, PldaConfig
from auriscope.speaker.xvector import XVector, XVectorConfig

__all__ = [
    "ECAPA",
    "ECAPAConfig",
    "Embedder",
    "EmbedderConfig",
    "Plda",
    "PldaConfig",
    "XVector",
    "XVectorConfig",
]
