"""Speaker: who speaks. Recordings to embeddings, and what is told from them."""

from __future__ import annotations

from auriscope.speaker.embedder import Embedder, EmbedderConfig
from auriscope.speaker.plda import Plda, PldaConfig

__all__ = ["Embedder", "EmbedderConfig", "Plda", "PldaConfig"]
