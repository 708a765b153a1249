"""BLSTM-CTC: a stack of bidirectional LSTMs that writes letters, the first recogniser without any alignment.

A. Graves and N. Jaitly, "Towards End-to-End Speech Recognition with Recurrent Neural Networks", ICML 2014, section 2:
five levels of 500 cells in each direction over 128 spectral channels, 26.5 million weights. It is the deep form of the
single level of 100 cells that A. Graves et al., "Connectionist Temporal Classification", ICML 2006, section 5, read the
phonemes of TIMIT with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask, run_recurrent
from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig
from auriscope.signal.features import LogMel


@dataclass(frozen=True)
class BLSTMCTCConfig(RecognizerConfig):
    """The configuration of a BLSTM with CTC; the defaults are the network of Graves and Jaitly 2014.

    Where the paper takes 128 channels of a spectrogram, these are 128 mels. ``num_cells`` counts one direction.
    ``subsampling`` frames of 10 ms are read at once, side by side, as later work does (H. Sak et al., arXiv
    1507.06947, section 3); the paper reads them one by one. ``dropout`` stands between levels.
    """

    num_mels: int = 128
    num_cells: int = 500
    num_layers: int = 5
    subsampling: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.num_cells, self.num_layers, self.subsampling) < 1:
            raise ValueError("num_cells, num_layers and subsampling must be at least 1")


class BLSTMCTC(Recognizer, name="recognition/blstm-ctc"):
    """Waveforms (batch, time) to logits (batch, frames, tokens), a frame for every ``subsampling`` times 10 ms."""

    Config = BLSTMCTCConfig
    Tiny: ClassVar[dict[str, Any]] = {"num_mels": 20, "num_cells": 16, "num_layers": 2, "subsampling": 3}
    Published: ClassVar[dict[str, float]] = {"WER on WSJ eval92 by 81 hours, no dictionary or language model (%)": 30.1}
    has_ctc = True

    def __init__(self, config: BLSTMCTCConfig) -> None:
        super().__init__(config)
        self.front = LogMel(config.sample_rate, config.num_mels)
        self.encoder = nn.LSTM(
            config.num_mels * config.subsampling,
            config.num_cells,
            config.num_layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )
        self.head = nn.Linear(2 * config.num_cells, len(config.tokens))

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Encode features (batch, frames, num_mels), stacking every ``subsampling`` of them."""
        stacked, frame_lengths = stack_frames(features, frame_lengths, self.config.subsampling)
        states = run_recurrent(self.encoder, stacked, frame_lengths)
        states = states * length_mask(frame_lengths, states.shape[1])[..., None]
        seconds = self.config.subsampling * self.front.hop_length / self.config.sample_rate
        return Encoded(states, frame_lengths, seconds)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """CTC logits (batch, frames, tokens) of waveforms (batch, time)."""
        return self.ctc_logits(self.encode(waveform, lengths))


def stack_frames(features: Tensor, frame_lengths: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Put every ``factor`` frames of (batch, frames, channels) side by side: (batch, frames / factor, …), rounded up.

    What is missing in the last stack of an utterance is zeros, whatever stands behind its end.

    >>> stacked, lengths = stack_frames(torch.arange(1.0, 6.0).reshape(1, 5, 1), torch.tensor([3]), 2)
    >>> stacked.tolist(), lengths.tolist()
    ([[[1.0, 2.0], [3.0, 0.0], [0.0, 0.0]]], [2])
    """
    valid = length_mask(frame_lengths, features.shape[1])[..., None]
    padded = F.pad(features * valid, (0, 0, 0, -features.shape[1] % factor))
    batch, frames, channels = padded.shape
    lengths = torch.div(frame_lengths + factor - 1, factor, rounding_mode="floor")
    return padded.reshape(batch, frames // factor, factor * channels), lengths
