"""SpeechBrain's transformer for LibriSpeech, trained jointly with CTC, and its language model.

M. Ravanelli et al., "SpeechBrain: A General-Purpose Speech Toolkit" (arXiv 2106.04624), section 4.1; the published
weights are ``speechbrain/asr-transformer-transformerlm-librispeech``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from auriscope.nn.transformer import Activation, TransformerDecoder, TransformerEncoder
from auriscope.recognition.mirrored import MirroredConv2d, StandardMels
from auriscope.recognition.recognizer import Encoded, RecognizerConfig
from auriscope.recognition.transformer import TransformerSpeller
from auriscope.recognition.transformerlm import TransformerLM, TransformerLMConfig

_EPS = 1e-6


@dataclass(frozen=True)
class SpeechBrainTransformerConfig(RecognizerConfig):
    """The configuration; the defaults are those of the published weights, but for their 5000 tokens.

    Args:
        conv_channels: of each block of convolutions.
        conv_kernels: odd.
        conv_strides: in frames and mels.
        conv_residuals: whether a block has a path beside it.
        conv_layers: convolutions of a block; the last one takes the stride.
        conv_dropout: behind each of them.
        dim: channels of the transformer.
        num_layers: of the encoder.
        num_decoder_layers: of the decoder.
        num_heads: of every attention.
        hidden_size: of the feed-forward layers.
        dropout: behind every part.
        activation: between the feed-forward layers.
    """

    conv_channels: tuple[int, ...] = (64, 64, 64)
    conv_kernels: tuple[int, ...] = (5, 5, 1)
    conv_strides: tuple[int, ...] = (2, 2, 1)
    conv_residuals: tuple[bool, ...] = (False, False, True)
    conv_layers: int = 1
    conv_dropout: float = 0.1
    dim: int = 512
    num_layers: int = 12
    num_decoder_layers: int = 6
    num_heads: int = 4
    hidden_size: int = 2048
    dropout: float = 0.1
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        blocks = self.conv_channels, self.conv_kernels, self.conv_strides, self.conv_residuals
        if len({len(each) for each in blocks}) > 1:
            raise ValueError("conv_channels, conv_kernels, conv_strides and conv_residuals must be of one length")


class ConvBlock(nn.Module):
    """Convolutions over (batch, frames, mels, channels), each normalised over mels and channels together."""

    def __init__(
        self,
        num_mels: int,
        in_channels: int,
        channels: int,
        *,
        kernel_size: int,
        stride: int,
        num_layers: int,
        residual: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_mels = -(-num_mels // stride)
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for number in range(num_layers):
            last = number == num_layers - 1
            inputs = in_channels if number == 0 else channels
            self.convs.append(MirroredConv2d(inputs, channels, kernel_size, stride if last else 1))
            self.norms.append(nn.LayerNorm((self.num_mels if last else num_mels, channels)))
        self.beside = MirroredConv2d(in_channels, channels, 1, stride) if residual else None
        self.beside_norm = nn.LayerNorm((self.num_mels, channels)) if residual else None
        self.activation, self.dropout = nn.LeakyReLU(), nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve, and give the new lengths (batch,)."""
        y, new_lengths = x, lengths
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y, new_lengths = conv(y, new_lengths)
            y = self.dropout(self.activation(norm(y)))
        if self.beside is not None and self.beside_norm is not None:
            y = self.dropout(y + self.beside_norm(self.beside(x, lengths)[0]))
        return y, new_lengths


class SpeechBrainTransformer(TransformerSpeller, name="recognition/sb-transformer"):
    """Waveforms (batch, time) and tokens (batch, tokens) to logits of what follows each token; and CTC's per frame."""

    Config = SpeechBrainTransformerConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_mels": 20,
        "conv_channels": (4, 4, 4),
        "conv_dropout": 0.0,
        "dim": 16,
        "num_layers": 1,
        "num_decoder_layers": 1,
        "num_heads": 2,
        "hidden_size": 32,
        "dropout": 0.0,
    }
    Published: ClassVar[dict[str, float]] = {"WER on LibriSpeech test-clean, with its language model (%)": 2.27}
    has_ctc = True

    def __init__(self, config: SpeechBrainTransformerConfig) -> None:
        super().__init__(config)
        self.front = StandardMels(config.sample_rate, config.num_mels)
        self.blocks = nn.ModuleList()
        num_mels, channels = config.num_mels, 1
        sizes = zip(config.conv_channels, config.conv_kernels, config.conv_strides, config.conv_residuals, strict=True)
        self.num_skipped = 1
        for out_channels, kernel_size, stride, residual in sizes:
            block = ConvBlock(
                num_mels,
                channels,
                out_channels,
                kernel_size=kernel_size,
                stride=stride,
                num_layers=config.conv_layers,
                residual=residual,
                dropout=config.conv_dropout,
            )
            self.blocks.append(block)
            num_mels, channels = block.num_mels, out_channels
            self.num_skipped *= stride
        self.project = nn.Linear(num_mels * channels, config.dim)
        self.project_dropout = nn.Dropout(config.dropout)
        self.encoder = TransformerEncoder(
            config.dim,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            hidden_size=config.hidden_size,
            dropout=config.dropout,
            activation=config.activation,
            eps=_EPS,
        )
        self.decoder = TransformerDecoder(
            len(config.tokens),
            config.dim,
            num_layers=config.num_decoder_layers,
            num_heads=config.num_heads,
            hidden_size=config.hidden_size,
            dropout=config.dropout,
            activation=config.activation,
            eps=_EPS,
        )
        self.head = nn.Linear(config.dim, len(config.tokens))

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Encode features (batch, frames, num_mels) into a quarter of the frames."""
        x = features[..., None]
        for block in self.blocks:
            x, frame_lengths = block(x, frame_lengths)
        states = self.encoder(self.project_dropout(self.project(x.flatten(2))), frame_lengths)
        seconds = self.num_skipped * self.front.hop_length / self.config.sample_rate
        return Encoded(states, frame_lengths, seconds)


@dataclass(frozen=True)
class SpeechBrainTransformerLMConfig(TransformerLMConfig):
    """The configuration of the language model; the defaults are those of the published weights, but for the tokens."""


class SpeechBrainTransformerLM(TransformerLM, name="recognition/sb-transformer-lm"):
    """Tokens (batch, tokens) to logits of what follows each: a transformer with a head of two layers."""

    Config = SpeechBrainTransformerLMConfig

    def __init__(self, config: SpeechBrainTransformerLMConfig) -> None:
        super().__init__(config)
        dim = config.dim
        head = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim, _EPS), nn.Linear(dim, len(config.tokens)))
        self.decoder.register_module("head", head)
        # It normalises what leaves its layers, even where each layer has done so already.
        self.decoder.register_module("norm", nn.LayerNorm(dim, _EPS))
        for module in self.decoder.layers.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = _EPS
