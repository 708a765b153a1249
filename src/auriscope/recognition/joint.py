"""A Conformer under CTC and a transformer decoder, trained together and decoded together.

S. Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition", IEEE JSTSP 11(8), 2017: CTC
holds the attention to the order of time, the decoder adds what CTC cannot, that one token depends on the others. In the
size of P. Guo et al., "Recent Developments on ESPnet Toolkit Boosted by Conformer" (arXiv 2010.13956), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from auriscope.nn.conformer import Conformer
from auriscope.nn.transformer import Activation, TransformerDecoder
from auriscope.recognition.recognizer import Encoded, RecognizerConfig
from auriscope.recognition.transformer import TransformerSpeller
from auriscope.signal.features import LogMel


@dataclass(frozen=True)
class JointConfig(RecognizerConfig):
    """The configuration of the joint recogniser; the defaults are those of the paper for LibriSpeech.

    ``kernel_size``, ``expansion`` and ``subsampling_channels`` are the Conformer's, ``hidden_size`` is that of the
    decoder's feed-forward layers, ``dim``, ``num_heads`` and ``dropout`` are of both.
    """

    dim: int = 512
    num_layers: int = 12
    num_decoder_layers: int = 6
    num_heads: int = 8
    kernel_size: int = 31
    expansion: int = 4
    hidden_size: int = 2048
    dropout: float = 0.1
    activation: Activation = "relu"
    subsampling_channels: int = 512


class Joint(TransformerSpeller, name="recognition/joint"):
    """Waveforms (batch, time) and tokens (batch, tokens) to logits of what follows each token; and CTC's per frame."""

    Config = JointConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_mels": 20,
        "dim": 16,
        "num_layers": 1,
        "num_decoder_layers": 1,
        "num_heads": 2,
        "kernel_size": 7,
        "expansion": 2,
        "hidden_size": 32,
        "dropout": 0.0,
        "subsampling_channels": 4,
    }
    Published: ClassVar[dict[str, float]] = {
        "WER on LibriSpeech test-clean, with a language model (%)": 2.1,
        "WER on LibriSpeech test-other, with a language model (%)": 4.9,
    }
    has_ctc = True

    def __init__(self, config: JointConfig) -> None:
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
        self.decoder = TransformerDecoder(
            len(config.tokens),
            config.dim,
            num_layers=config.num_decoder_layers,
            num_heads=config.num_heads,
            hidden_size=config.hidden_size,
            dropout=config.dropout,
            activation=config.activation,
        )

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Encode features (batch, frames, num_mels) into a quarter of the frames."""
        states, frame_lengths = self.encoder(features, frame_lengths)
        seconds = self.encoder.subsampling_factor * self.front.hop_length / self.config.sample_rate
        return Encoded(states, frame_lengths, seconds)
