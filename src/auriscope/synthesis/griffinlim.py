"""Griffin-Lim, a vocoder that nobody has to train: phases that fit the amplitudes are looked for.

Griffin and Lim, "Signal estimation from modified short-time Fourier transform" (1984), with the acceleration of
Perraudin, Balazs and Søndergaard, "A fast Griffin-Lim algorithm" (WASPAA 2013), algorithm 2. The amplitudes of the
frequencies are those, not negative, whose mels come nearest to the given ones, by Beck and Teboulle, "A fast iterative
shrinkage-thresholding algorithm" (2009), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from auriscope.signal.stft import istft, make_window, stft
from auriscope.signal.vocoding import MelConfig, filterbank
from auriscope.synthesis.vocoder import Vocoder, VocoderConfig, each_alone


@dataclass(frozen=True)
class GriffinLimConfig(VocoderConfig):
    """The configuration of Griffin-Lim.

    Args:
        mel: the mels that it reads.
        num_iterations: rounds of going to sound and back.
        momentum: how far each round goes on in the direction of the last one; 0: the algorithm of 1984.
        num_inversion_steps: steps of finding the amplitudes behind the mels.
    """

    num_iterations: int = 60
    momentum: float = 0.99
    num_inversion_steps: int = 60

    def __post_init__(self) -> None:
        if self.num_iterations < 0 or self.num_inversion_steps < 0:
            raise ValueError("num_iterations and num_inversion_steps must not be negative")
        if self.momentum < 0:
            raise ValueError(f"momentum must not be negative, but is {self.momentum}")


class GriffinLim(Vocoder, name="synthesis/griffin-lim"):
    """Turn log-mels (batch, frames, mels) into waveforms (batch, time) whose mels come near them.

    The first phases are drawn, always the same ones: the result depends on the mels alone.
    """

    Config = GriffinLimConfig
    Tiny: ClassVar[dict[str, Any]] = {"mel": MelConfig(16_000, 256, 64, 256, 40), "num_iterations": 10}
    fitted = True

    triangles: Tensor

    def __init__(self, config: GriffinLimConfig) -> None:
        super().__init__(config)
        self.register_buffer("triangles", filterbank(config.mel), persistent=False)

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Turn log-mels (batch, frames, mels) into waveforms (batch, frames * hop_length)."""
        if lengths is not None and bool((lengths < mel.shape[1]).any()):
            return each_alone(self, mel, lengths)
        return self.waveform(self.amplitude(mel))

    @torch.no_grad()
    def stream(self, mel: Tensor, *, piece_frames: int = 500) -> Iterator[Tensor]:
        """Give the waveform of a long mel (batch, frames, mels) in pieces, cut where it is quietest.

        As a phase depends on all others, the pieces are not those of the whole, but sound as well.
        """
        loudness = mel.mean((0, 2))
        begin, frames = 0, mel.shape[1]
        while begin < frames:
            end = begin + piece_frames
            # In the last quarter of the piece; what is left is one, too.
            if end < frames and (earliest := end - piece_frames // 4) < end:
                end = earliest + int(loudness[earliest:end].argmin())
            yield self(mel[:, begin:end])
            begin = min(end, frames)

    def amplitude(self, mel: Tensor) -> Tensor:
        """Find amplitudes (batch, frequencies, frames) of which the mels (batch, frames, mels) could be."""
        target = mel.transpose(1, 2).exp()
        triangles = self.triangles.to(target)
        step = 1.0 / float(torch.linalg.matrix_norm(triangles, 2)) ** 2
        found: Tensor = (torch.linalg.pinv(triangles) @ target).clamp_min(0.0)
        ahead, weight = found, 1.0
        for _ in range(self.config.num_inversion_steps):
            former, former_weight = found, weight
            found = (ahead - step * (triangles.T @ (triangles @ ahead - target))).clamp_min(0.0)
            weight = (1.0 + math.sqrt(1.0 + 4.0 * weight**2)) / 2.0
            ahead = found + (former_weight - 1.0) / weight * (found - former)
        power: float = self.config.mel.power
        return found if power == 1.0 else found.pow(1.0 / power)

    def waveform(self, amplitude: Tensor) -> Tensor:
        """Find a waveform (batch, frames * hop_length) that has amplitudes (batch, frequencies, frames), or nearly."""
        mel: MelConfig = self.config.mel
        frames = amplitude.shape[-1]
        length = frames * mel.hop_length
        window = make_window("hann", mel.window_length).to(amplitude)

        def sound(spectrum: Tensor) -> Tensor:
            return istft(spectrum, window, mel.hop_length, length=length, fft_length=mel.fft_length)

        # One and the same draw for every example, so that a batch equals each alone.
        turns = torch.rand(*amplitude.shape[1:], generator=torch.Generator().manual_seed(0)).to(amplitude)
        estimate = torch.polar(amplitude, 2.0 * math.pi * turns.expand_as(amplitude).contiguous())
        former = torch.zeros_like(estimate)
        for _ in range(self.config.num_iterations):
            heard = stft(sound(estimate), window, mel.hop_length, fft_length=mel.fft_length)[..., :frames]
            ahead = heard + self.config.momentum * (heard - former)
            former = heard
            estimate = amplitude * ahead / ahead.abs().clamp_min(1e-12)
        return sound(estimate)
