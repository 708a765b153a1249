"""The mel spectrogram between the two halves of speech synthesis: what a synthesizer writes and a vocoder reads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from auriscope.errors import AuriscopeError
from auriscope.signal.mel import MelNorm, MelScale, mel_filterbank
from auriscope.signal.stft import make_window, stft


@dataclass(frozen=True)
class MelConfig:
    """How speech is turned into mels; the default is that of SpeechBrain's Tacotron 2 and HiFi-GAN for LJSpeech.

    Frame k is centred at sample k times ``hop_length``, beyond the ends the signal is mirrored. The Hann window of
    ``window_length`` samples stands in the middle of a transform of ``fft_length``. The amplitude is raised to
    ``power`` (1: amplitude, 2: power), weighted by ``num_mels`` triangles from ``min_hz`` to ``max_hz`` on ``scale``
    with ``norm`` (see :func:`~auriscope.signal.mel.mel_filterbank`), raised to at least ``floor``, and its natural
    logarithm is taken. Values that make no sense raise ``ValueError``.
    """

    sample_rate: int = 22_050
    fft_length: int = 1024
    hop_length: int = 256
    window_length: int = 1024
    num_mels: int = 80
    min_hz: float = 0.0
    max_hz: float = 8000.0
    scale: MelScale = "slaney"
    norm: MelNorm = "slaney"
    power: float = 1.0
    floor: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.hop_length <= self.window_length <= self.fft_length:
            raise ValueError("mels need 0 < hop_length <= window_length <= fft_length")
        if self.num_mels < 1 or self.sample_rate < 1:
            raise ValueError("mels need a num_mels and a sample_rate of at least 1")
        if not 0 <= self.min_hz < self.max_hz <= self.sample_rate / 2:
            raise ValueError(f"mels need 0 <= min_hz < max_hz <= {self.sample_rate / 2:g}, half the sample rate")
        if self.floor <= 0 or self.power <= 0:
            raise ValueError("the floor and the power of mels must be above 0")

    @property
    def frame_seconds(self) -> float:
        """Time from one frame to the next."""
        return self.hop_length / self.sample_rate

    def num_frames(self, num_samples: int) -> int:
        """Number of frames of a waveform of so many samples."""
        return 1 + num_samples // self.hop_length

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Number of frames (batch,) of waveforms of so many samples (batch,)."""
        return 1 + lengths.div(self.hop_length, rounding_mode="floor")


MEL_22K = MelConfig()
"""22.05 kHz: SpeechBrain's ``tts-tacotron2-ljspeech`` and ``tts-hifigan-ljspeech``."""

MEL_16K = MelConfig(sample_rate=16_000)
"""16 kHz, of our own small models, and of SpeechBrain's ``tts-hifigan-libritts-16kHz``.

A hop of 256 samples is 16 ms: 62.5 frames a second are fewer steps for a synthesizer than the 86 of 22.05 kHz, and the
powers of two are what a vocoder's upsampling is made of.
"""


def speech_mel(waveform: Tensor, config: MelConfig = MEL_22K) -> Tensor:
    """Turn speech (batch, time) into its log-mels (batch, frames, mels); gradients flow.

    There are ``config.num_frames(time)`` frames. A waveform of at most half a transform is lengthened by zeros before
    it is mirrored. The ends of shorter waveforms in a padded batch see the padding in the place of their mirror image:
    take the mels of each alone where this matters. Equal to SpeechBrain's ``mel_spectogram`` with ``compression``.
    """
    time = waveform.shape[-1]
    # The mirror needs more samples than it gives.
    waveform = nn.functional.pad(waveform, (0, max(0, config.fft_length // 2 + 1 - time)))
    window = make_window("hann", config.window_length)
    spectrum = stft(waveform, window, config.hop_length, fft_length=config.fft_length, pad_mode="reflect")
    amplitude = spectrum[..., : config.num_frames(time)].abs()
    if config.power != 1.0:
        amplitude = amplitude.pow(config.power)
    mel = filterbank(config).to(amplitude) @ amplitude
    return torch.log(mel.clamp_min(config.floor)).transpose(-1, -2)


def filterbank(config: MelConfig) -> Tensor:
    """The triangles (mels, frequencies) of a definition, kept for the next call; do not change it in place."""
    return mel_filterbank(
        config.sample_rate,
        config.fft_length,
        config.num_mels,
        min_hz=config.min_hz,
        max_hz=config.max_hz,
        scale=config.scale,
        norm=config.norm,
    )


def check_same_mel(synthesizer: MelConfig, vocoder: MelConfig) -> None:
    """Raise an ``AuriscopeError`` of one line, which names what differs, if a vocoder reads other mels than those."""
    ours, theirs = dataclasses.asdict(synthesizer), dataclasses.asdict(vocoder)
    differing = [f"{name} {value} and {theirs[name]}" for name, value in ours.items() if value != theirs[name]]
    if differing:
        raise AuriscopeError(
            f"the synthesizer and the vocoder are no pair, as their mels differ ({', '.join(differing)}): "
            "take a vocoder of the same mels"
        )
