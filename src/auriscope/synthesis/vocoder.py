"""What every vocoder is: the second half of speech synthesis, from mels to sound."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from auriscope.pretrained.model import Model
from auriscope.signal.vocoding import MEL_22K, MelConfig


@dataclass(frozen=True)
class VocoderConfig:
    """What the configurations of all vocoders hold: ``mel``, the mels that it reads."""

    mel: MelConfig = MEL_22K

    @property
    def sample_rate(self) -> int:
        """Of the sound that it gives."""
        return self.mel.sample_rate


class Vocoder(Model):
    """Base of what turns log-mels, as :func:`~auriscope.signal.vocoding.speech_mel` makes them, into speech.

    ``waveform = vocoder(mel)`` does it at once, :meth:`stream` in the memory of a few seconds.
    """

    context_frames: int = 0
    """How many frames before and behind a frame its sound depends on, where it does not depend on all."""

    @abstractmethod
    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Turn log-mels (batch, frames, mels) into waveforms (batch, frames * hop_length).

        ``lengths`` (batch,) are valid frames; behind the last hop of them is silence.
        """

    @torch.no_grad()
    def stream(self, mel: Tensor, *, piece_frames: int = 500) -> Iterator[Tensor]:
        """Give the waveform of a long mel (batch, frames, mels) in pieces (batch, time), one after the other.

        A piece is of at most ``piece_frames`` frames, and is computed with the frames around it that it depends on, so
        that the pieces together equal the whole, up to rounding.
        """
        hop, context = self.config.mel.hop_length, self.context_frames
        for begin in range(0, mel.shape[1], piece_frames):
            end = min(begin + piece_frames, mel.shape[1])
            first, last = max(0, begin - context), min(end + context, mel.shape[1])
            waveform: Tensor = self(mel[:, first:last])
            yield waveform[:, (begin - first) * hop : (end - first) * hop]


def each_alone(vocoder: Any, mel: Tensor, lengths: Tensor) -> Tensor:
    """Vocode mels of several lengths one by one; (batch, time) with silence behind the end of each."""
    hop = vocoder.config.mel.hop_length
    waveform = mel.new_zeros(len(mel), mel.shape[1] * hop)
    for row, one, frames in zip(waveform, mel, lengths.tolist(), strict=True):
        row[: frames * hop] = vocoder(one[None, :frames])[0]
    return waveform
