"""LAION's CLAP: HTS-AT hears, RoBERTa reads, and what is longer than a window can be heard as a whole and in pieces.

Y. Wu, K. Chen, T. Zhang, Y. Hui, T. Berg-Kirkpatrick, S. Dubnov, "Large-Scale Contrastive Language-Audio Pretraining
with Feature Fusion and Keyword-to-Caption Augmentation" (arXiv 2211.06687), sections 3.2 and 3.3. The published models
are loaded by :mod:`auriscope.crossmodal.interop`, and train no further here than any network does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.crossmodal.clap import CrossModal, CrossModalConfig, Fill
from auriscope.crossmodal.losses import LARGEST_SCALE
from auriscope.crossmodal.roberta import BEGIN, END, PADDING, RobertaConfig, RobertaEncoder
from auriscope.crossmodal.windows import fill_up, window_frames
from auriscope.errors import AuriscopeError
from auriscope.nn.htsat import HTSAT, HTSATConfig
from auriscope.nn.masks import choice
from auriscope.signal.features import FeatureConfig, Features
from auriscope.text.bytelevel import BYTES

_PIECES = 3


@dataclass(frozen=True)
class LaionCLAPConfig(CrossModalConfig):
    """The configuration of a LAION CLAP; the defaults are those of the one without fusion.

    ``filters`` are the triangles of the mels, between ``min_hz`` and ``max_hz``: "slaney" ones, or "htk" ones where
    ``audio`` fuses.
    """

    sample_rate: int = 48_000
    window_seconds: float = 10.0
    fill: Fill = "repeat_whole"
    dim: int = 512
    window_length: int = 1024
    hop_length: int = 480
    min_hz: float = 50.0
    max_hz: float = 14_000.0
    filters: Literal["slaney", "htk"] = "slaney"
    audio: HTSATConfig = field(default_factory=HTSATConfig)
    text: RobertaConfig = field(default_factory=RobertaConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.filters, ("slaney", "htk"), "filters")
        frames = 1 + round(self.window_seconds * self.sample_rate) // self.hop_length
        if frames > self.audio.num_frames:
            raise ValueError(f"a window of {frames} frames does not fit into an image of {self.audio.num_frames}")


class LaionCLAP(CrossModal, name="crossmodal/clap-laion"):
    """Waveforms (batch, time) and tokens (batch, tokens) to two embeddings (batch, dim) of unit length.

    What is shorter than a window is filled up to one. What is longer can be heard at once if the network fuses: shrunk,
    and besides as pieces of a window each from its front, middle and back. The paper draws where they begin at random;
    here it is the middle of each third of all places, so that the same sound always has the same embedding.
    """

    Config = LaionCLAPConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "sample_rate": 16_000,
        "window_seconds": 0.25,
        "dim": 12,
        "window_length": 512,
        "hop_length": 160,
        "max_hz": 8000.0,
        "audio": HTSATConfig(
            num_mels=16, image_size=32, dim=8, num_layers=(2, 1), num_heads=(2, 2), window_size=4, dropout=0.0
        ),
        "text": RobertaConfig(
            tokens=(BEGIN, PADDING, END, *BYTES),
            dim=12,
            num_layers=1,
            num_heads=2,
            hidden_size=16,
            num_positions=40,
            max_tokens=30,
            dropout=0.0,
        ),
    }
    Published: ClassVar[dict[str, float]] = {
        "zero-shot accuracy on ESC-50, of the larger one of speech, music and AudioSet, as its authors say (%)": 89.98,
    }
    unexportable: ClassVar[str] = "how a sound is filled up depends on its length"

    def __init__(self, config: LaionCLAPConfig) -> None:
        super().__init__(config)
        self.front = Features(
            FeatureConfig(
                sample_rate=config.sample_rate,
                window_length=config.window_length,
                hop_length=config.hop_length,
                fft_length=config.window_length,
                pad_mode="reflect",
                filters=config.filters,
                num_mels=config.audio.num_mels,
                min_hz=config.min_hz,
                max_hz=config.max_hz,
                log="decibels",
            )
        )
        self.audio, self.text = HTSAT(config.audio), RobertaEncoder(config.text)
        self.audio_head, self.text_head = (_head(part.dim, config.dim) for part in (self.audio, self.text))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1.0 / 0.07)))

    @property
    def logit_scale(self) -> Tensor:
        """By what cosines are multiplied to be logits of texts, given a sound."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens) and their lengths (batch,) of texts; ``AuriscopeError`` for one without a word."""
        return self.text.tokenize(texts)

    def encode_audio(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of waveforms (batch, time); ``lengths`` (batch,) are the valid samples.

        ``AuriscopeError`` for what is longer than a window, unless the network fuses.
        """
        if lengths is None:
            lengths = torch.full((len(waveform),), waveform.shape[1], device=waveform.device)
        size = window_frames(self)
        longest = int(lengths.max())
        if longest <= size:
            features, _ = self.features(fill_up(waveform, lengths, size, self.fill))
            return self.encode_features(features)
        if not self.config.audio.fuses:
            raise AuriscopeError(
                f"{longest / self.sample_rate:.1f} s are longer than the {self.window_seconds:g} s that "
                f"{self.name} hears at once: hear it in windows"
            )
        # Each by itself: only those that are longer have pieces.
        rows = zip(waveform, lengths.tolist(), strict=True)
        return torch.cat([self._encode_alone(row[None, :length]) for row, length in rows])

    def features(self, waveform: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the network hears of waveforms (batch, time), a window long or longer.

        Features (batch, frames, num_mels) in decibels, and of what is longer than a window by at least a frame the
        pieces (batch, 3, frames, num_mels); features of the whole are then shrunk to a window.
        """
        # Powers and their logarithms lose what a network needs of them in sixteen bits.
        with torch.autocast(waveform.device.type, enabled=False):
            features, _ = self.front(waveform.float())
        frames = 1 + window_frames(self) // self.config.hop_length
        num_places = features.shape[1] - frames + 1
        if num_places == 1:
            return features, None
        thirds = torch.arange(num_places).tensor_split(_PIECES)
        begins = [int(third[len(third) // 2]) if len(third) else 0 for third in thirds]
        pieces = torch.stack([features[:, begin : begin + frames] for begin in begins], 1)
        shrunk = F.interpolate(features[:, None], (frames, features.shape[2]), mode="bilinear", align_corners=False)
        return shrunk[:, 0], pieces

    def encode_features(self, features: Tensor, pieces: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of what :meth:`features` gives."""
        vector: Tensor = self.audio_head(self.audio(features, pieces=pieces))
        return vector

    def encode_text(self, tokens: Tensor, token_lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of tokens (batch, tokens); ``token_lengths`` (batch,) are valid."""
        vector: Tensor = self.text_head(self.text(tokens, token_lengths))
        return vector

    def _encode_alone(self, waveform: Tensor) -> Tensor:
        size = window_frames(self)
        if waveform.shape[1] < size:
            lengths = torch.tensor([waveform.shape[1]], device=waveform.device)
            waveform = fill_up(waveform, lengths, size, self.fill)
        return self.encode_features(*self.features(waveform))


def _head(in_dim: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, dim), nn.ReLU(), nn.Linear(dim, dim))
