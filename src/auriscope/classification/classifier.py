"""What every classifier is to training, verbs and interpreters: a recording or an image to logits of classes."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.nn.maps import HiddenMaps
from auriscope.nn.masks import choice, length_mask
from auriscope.pretrained.addresses import suggest
from auriscope.pretrained.model import Model
from auriscope.signal.features import masked
from auriscope.signal.mel import mel_filterbank, symmetric_filterbank
from auriscope.signal.stft import STFT

__all__ = [
    "Classifier",
    "ClassifierConfig",
    "HiddenMaps",
    "ImageClassifier",
    "ImageClassifierConfig",
    "SoundClassifier",
    "SoundClassifierConfig",
    "SoundMaps",
]

DIGITS = tuple("0123456789")
# The smallest value that is told apart from silence.
_FLOOR = 1e-10
_DECIBELS_PER_NEPER = 10.0 / math.log(10.0)
LEVELS = ("peak", "decibels", "log1p", "linear")


@dataclass(frozen=True)
class ClassifierConfig:
    """What the configuration of every classifier begins with: the names of the classes, in the order of the logits."""

    labels: tuple[str, ...] = DIGITS

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise ValueError(f"labels must name at least two classes, not {len(self.labels)}: there is nothing to tell")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels must differ from each other")


class Classifier(Model):
    """Base of every classifier: a batch to logits (batch, classes), which are those of a softmax."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        labels: tuple[str, ...] = self.config.labels
        return labels

    def label_index(self, label: str) -> int:
        """The number of the class of this name; ``AuriscopeError`` if there is none."""
        if label not in self.labels:
            raise AuriscopeError(
                f"there is no class {label!r}{suggest(label, self.labels)} (the classes: {', '.join(self.labels)})"
            )
        return self.labels.index(label)

    @abstractmethod
    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, classes) of a batch, in which padding changes nothing."""

    @abstractmethod
    def classify_maps(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of what interpreters see, (batch, channels, height, width)."""

    def predict_proba(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Probabilities (batch, classes) of a batch as :meth:`forward` takes it; each row sums to one."""
        logits: Tensor = self(x, lengths)
        return logits.float().softmax(-1)


@dataclass(frozen=True)
class SoundClassifierConfig(ClassifierConfig):
    """What a classifier of sounds hears: an STFT, and mels of its magnitude.

    A frame every ``hop_length`` samples sees ``window_length`` of them, transformed with ``fft_length``. ``num_mels``
    triangles on the HTK scale lie between ``min_hz`` and ``max_hz`` (None: half the sample rate): "htk" ones, or
    "symmetric" ones (:func:`~auriscope.signal.mel.symmetric_filterbank`). With ``num_mels`` 0 the bins themselves are
    taken. ``power`` 1 weighs the magnitude, 2 its square. ``level`` says how what that gives becomes features:

    - "peak": decibels below the recording's loudest value, ``range_db`` of them mapped to [0, 1]; what is quieter, and
      silence, is 0. Neither the recording's level nor a mask that blanks something surprises a network.
    - "decibels": decibels, raised to ``range_db`` below the recording's loudest, as SpeechBrain has them.
    - "log1p": the logarithm of 1 plus the value.
    - "linear": the value itself.
    """

    sample_rate: int = 16_000
    window: str = "hann"
    window_length: int = 512
    hop_length: int = 160
    fft_length: int = 512
    num_mels: int = 64
    min_hz: float = 50.0
    max_hz: float | None = None
    filters: str = "htk"
    level: str = "peak"
    power: int = 2
    range_db: float = 80.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.level, LEVELS, "level")
        choice(self.filters, ("htk", "symmetric"), "filters")
        choice(self.window, ("hann", "hamming"), "window")
        if not 0 < 2 * self.hop_length <= self.window_length <= self.fft_length:
            raise ValueError("an STFT that can be inverted needs 0 < 2 hop_length <= window_length <= fft_length")
        if self.sample_rate < 1000 or self.num_mels < 0 or self.range_db <= 0:
            raise ValueError("sample_rate must be at least 1000, num_mels at least 0, and range_db above 0")
        if self.power not in (1, 2):
            raise ValueError(f"power must be 1 (of the magnitude) or 2, not {self.power}")
        if not 0 <= self.min_hz < (self.max_hz or self.sample_rate / 2) <= self.sample_rate / 2:
            raise ValueError("mels need 0 <= min_hz < max_hz, which is at most half the sample rate")


class SoundClassifier(Classifier):
    """Base of the classifiers of sounds: waveform to linear magnitude to features to logits.

    ``forward(w)`` is ``classify_magnitude(spectrogram(w).abs())``: a mask on the linear magnitude can be fed back, and
    made sound by :meth:`waveform` with the phase of the recording.
    """

    filters: Tensor | None

    def __init__(self, config: SoundClassifierConfig) -> None:
        super().__init__(config)
        self.stft = STFT(
            config.window_length,
            config.hop_length,
            fft_length=config.fft_length,
            window=config.window,  # type: ignore[arg-type]  # the configuration checks it
        )
        self.register_buffer("filters", _filters(config), persistent=False)

    @property
    def num_bins(self) -> int:
        """How many features a frame has: mels, or bins of the STFT."""
        return int(self.config.num_mels) or self.stft.num_frequencies

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Number of frames (batch,) of recordings of so many samples: 1 + samples // hop_length."""
        return 1 + lengths.div(self.stft.hop_length, rounding_mode="floor")

    def spectrogram(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The complex STFT (batch, frames, bins) of waveforms (batch, time) at the configured rate.

        ``lengths`` (batch,) are the valid samples; what lies behind them is taken as silence.
        """
        waveform, _ = masked(waveform, lengths)
        frames = 1 + waveform.shape[1] // self.stft.hop_length
        spectrum: Tensor = self.stft(waveform.float())
        return spectrum[..., :frames].mT

    def waveform(self, spectrum: Tensor, length: int) -> Tensor:
        """Bring complex spectra (batch, frames, bins) back to waveforms (batch, length)."""
        return self.stft.inverse(spectrum.mT, length)

    def features(self, magnitude: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Features (batch, frames, num_bins) of linear magnitudes (batch, frames, bins); zeros behind valid frames."""
        config = self.config
        values = magnitude if config.power == 1 else magnitude.square()
        if self.filters is not None:
            values = values @ self.filters
        valid = None if frame_lengths is None else length_mask(frame_lengths, magnitude.shape[1])[..., None]
        if config.level == "linear":
            features = values
        elif config.level == "log1p":
            features = values.log1p()
        else:
            decibels = _DECIBELS_PER_NEPER * values.clamp_min(_FLOOR).log()
            below = decibels if valid is None else torch.where(valid, decibels, -torch.inf)
            highest = below.amax((1, 2), keepdim=True)
            if config.level == "peak":
                # Silence has no loudest value to be compared with.
                highest = highest.clamp_min(_DECIBELS_PER_NEPER * math.log(_FLOOR) + config.range_db)
                features = (1.0 + (decibels - highest) / config.range_db).clamp_min(0.0)
            else:
                features = torch.maximum(decibels, highest - config.range_db)
        return features if valid is None else torch.where(valid, features, 0.0)

    @abstractmethod
    def classify_features(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, classes) of features (batch, frames, num_bins); None: every frame is valid."""

    def classify_magnitude(self, magnitude: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, classes) of linear magnitudes (batch, frames, bins), of which so many frames are valid."""
        # Powers and their logarithms lose what a network needs of them in sixteen bits.
        with torch.autocast(magnitude.device.type, enabled=False):
            features = self.features(magnitude.float(), frame_lengths)
        return self.classify_features(features, frame_lengths)

    def classify_maps(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of linear magnitudes (batch, 1, frames, bins)."""
        return self.classify_magnitude(x[:, 0])

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, classes) of waveforms (batch, time); ``lengths`` (batch,) are the valid samples."""
        with torch.autocast(waveform.device.type, enabled=False):
            magnitude = self.spectrogram(waveform, lengths).abs()
        return self.classify_magnitude(magnitude, None if lengths is None else self.frame_lengths(lengths))


def _filters(config: SoundClassifierConfig) -> Tensor | None:
    """The filters (bins, num_mels) of a configuration, if it has any."""
    if not config.num_mels:
        return None
    arguments = config.sample_rate, config.fft_length, config.num_mels
    if config.filters == "symmetric":
        filters = symmetric_filterbank(*arguments, min_hz=config.min_hz, max_hz=config.max_hz)
    else:
        filters = mel_filterbank(*arguments, min_hz=config.min_hz, max_hz=config.max_hz, scale="htk", norm="none")
    return filters.T.contiguous()


class SoundMaps(SoundClassifier):
    """Base of the classifiers of sounds that show their hidden maps (:class:`~auriscope.nn.maps.HiddenMaps`)."""

    @property
    @abstractmethod
    def hidden_channels(self) -> tuple[int, ...]:
        """How many channels the map of each stage has, earliest first."""

    @abstractmethod
    def stages(self, features: Tensor, frame_lengths: Tensor | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Maps (batch, channels, frames, bins) of every stage, and logits, of features (batch, frames, num_bins)."""

    def classify_features(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, classes) of features (batch, frames, num_bins); None: every frame is valid."""
        return self.stages(features, frame_lengths)[1]

    def hidden(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps (batch, channels, height, width) of every stage, of linear magnitudes (batch, 1, frames, bins)."""
        return self.hidden_and_logits(x)[0]

    def hidden_and_logits(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The same maps and the logits that were computed from them, in one pass."""
        return self.stages(self.features(x[:, 0]))


@dataclass(frozen=True)
class ImageClassifierConfig(ClassifierConfig):
    """What a classifier of images sees: ``channels`` of ``height`` x ``width`` pixels, with values in [0, 1]."""

    channels: int = 1
    height: int = 28
    width: int = 28

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.channels, self.height, self.width) < 1:
            raise ValueError("channels, height and width must be at least 1")


class ImageClassifier(Classifier):
    """Base of the classifiers of images (batch, channels, height, width) with values in [0, 1]."""

    @abstractmethod
    def forward(self, image: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width); they have no ``lengths``."""

    def classify_maps(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of the same images."""
        logits: Tensor = self(x)
        return logits
