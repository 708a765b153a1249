"""A Conformer encoder with CTC: the strongest of the encoders here, in a small size.

A. Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition" (arXiv 2005.08100), whose
smallest network has 16 blocks of 144 channels; A. Graves et al., "Connectionist Temporal Classification", ICML 2006.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from auriscope.nn.conformer import Conformer
from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig
from auriscope.signal.features import LogMel


@dataclass(frozen=True)
class ConformerCTCConfig(RecognizerConfig):
    """The configuration of a Conformer with CTC; the defaults are Conformer-S of the paper.

    Left open there: the convolution has ``kernel_size`` 31, as the large networks' is 32; ours must be odd.
    """

    dim: int = 144
    num_layers: int = 16
    num_heads: int = 4
    kernel_size: int = 31
    expansion: int = 4
    dropout: float = 0.1
    subsampling_channels: int = 144


class ConformerCTC(Recognizer, name="recognition/conformer-ctc"):
    """Waveforms (batch, time) to logits (batch, frames, tokens), a frame for every 40 ms."""

    Config = ConformerCTCConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_mels": 20,
        "dim": 16,
        "num_layers": 1,
        "num_heads": 2,
        "kernel_size": 7,
        "expansion": 2,
        "dropout": 0.0,
        "subsampling_channels": 4,
    }
    Published: ClassVar[dict[str, float]] = {"WER on LibriSpeech test-clean, transducer (%)": 2.7}
    has_ctc = True

    def __init__(self, config: ConformerCTCConfig) -> None:
        super().__init__(config)
        self.front = LogMel(config.sample_rate, config.num_mels)
        self.encoder = Conformer(
            config.num_mels,
            config.dim,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            kernel_size=config.kernel_size,
            expansion=config.expansion,
            dropout=config.dropout,
            channels=config.subsampling_channels,
        )
        self.head = nn.Linear(config.dim, len(config.tokens))

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Encode features (batch, frames, num_mels) into a quarter of the frames."""
        states, frame_lengths = self.encoder(features, frame_lengths)
        seconds = self.encoder.subsampling_factor * self.front.hop_length / self.config.sample_rate
        return Encoded(states, frame_lengths, seconds)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """CTC logits (batch, frames, tokens) of waveforms (batch, time)."""
        return self.ctc_logits(self.encode(waveform, lengths))
