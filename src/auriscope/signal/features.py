"""Features of speech as layers of a network, and the settings that other toolkits' weights were trained with.

:func:`make_features` makes them by name; :class:`LogMel` are our own models'. All work on padded batches, in which
padding changes nothing: each recording gets what it gets alone.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from auriscope.signal.cepstra import DeltaEdges, dct_matrix, normalize, valid_frames, with_deltas
from auriscope.signal.mel import kaldi_filterbank, mel_filterbank, symmetric_filterbank
from auriscope.signal.stft import PadMode, make_window, power_of, stft

FrameKind = Literal["centred", "without_last", "whole"]
FilterKind = Literal["slaney", "htk", "symmetric", "kaldi"]
LogKind = Literal["decibels", "natural", "whisper"]
Normalization = Literal["none", "mean", "mean_variance"]


class FeatureExtractor(nn.Module):
    """Base of what turns waveforms (batch, time) into features (batch, frames, ``num_channels``).

    A frame comes every ``frame_seconds``.
    """

    num_channels: int
    frame_seconds: float

    @abstractmethod
    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Number of frames (batch,) of recordings of so many samples."""

    @abstractmethod
    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute features (batch, frames, channels) and frame lengths (batch,); behind a recording's end are zeros."""


@dataclass(frozen=True)
class FeatureConfig:
    """How :class:`Features` are computed.

    Frames: ``frames`` is "centred" (frame k around sample k times the hop, 1 + time // hop of them), "without_last"
    (the same without the last) or "whole" (only frames that lie within the recording). ``pad_mode`` is with what
    centred frames see beyond the ends. ``remove_offset`` and ``preemphasis`` change each frame before the window,
    "povey" being a symmetric Hann window to the power of 0.85; waveforms are first multiplied by ``gain``.

    Mels: ``filters`` are "slaney" triangles of equal area, "htk" ones of equal height, or those of
    :func:`~auriscope.signal.mel.symmetric_filterbank` or :func:`~auriscope.signal.mel.kaldi_filterbank`. The power is
    raised to ``floor``; its logarithm is in "decibels", "natural" or "whisper" (a fortieth of the decibels plus 1),
    and raised to ``range_db`` below the recording's highest, where that is not None.

    Cepstra: the first ``num_cepstra`` of them instead of the mels, if it is not 0; ``lifter`` L multiplies number n by
    1 + L/2 sin(pi n / L), n from 0, or 1 with ``lifter_start``. ``energy`` puts the logarithm of the frame's energy in
    the place of the first cepstrum, or before the mels.

    At last come ``num_deltas`` derivatives over ``delta_width`` frames, and the ``normalization`` over each recording.
    """

    sample_rate: int = 16_000
    frames: FrameKind = "centred"
    window: str = "hann"
    window_length: int = 400
    hop_length: int = 160
    fft_length: int = 512
    pad_mode: PadMode = "constant"
    gain: float = 1.0
    remove_offset: bool = False
    preemphasis: float = 0.0
    filters: FilterKind = "slaney"
    num_mels: int = 80
    min_hz: float = 0.0
    max_hz: float | None = None
    log: LogKind = "natural"
    floor: float = 1e-10
    range_db: float | None = None
    num_cepstra: int = 0
    lifter: float = 0.0
    lifter_start: int = 0
    energy: bool = False
    num_deltas: int = 0
    delta_width: int = 9
    delta_edges: DeltaEdges = "fit"
    normalization: Normalization = "none"

    def __post_init__(self) -> None:
        if not 0 < self.window_length <= self.fft_length or self.hop_length < 1:
            raise ValueError("features need 0 < window_length <= fft_length, and a hop_length of at least 1")
        if self.floor <= 0:
            raise ValueError(f"floor must be above 0, not {self.floor}")


_LIBROSA = FeatureConfig(
    window_length=2048, hop_length=512, fft_length=2048, num_mels=128, log="decibels", range_db=80.0
)
_SPEECHBRAIN = FeatureConfig(
    window="hamming", fft_length=400, filters="symmetric", num_mels=80, log="decibels", range_db=80.0
)
_KALDI = FeatureConfig(
    frames="whole",
    window="povey",
    gain=32_768.0,
    remove_offset=True,
    preemphasis=0.97,
    filters="kaldi",
    min_hz=20.0,
    floor=2.0**-23,
)
PRESETS: dict[str, FeatureConfig] = {
    "librosa": _LIBROSA,
    "librosa-mfcc": dataclasses.replace(_LIBROSA, num_cepstra=20, lifter_start=1),
    "speechbrain": _SPEECHBRAIN,
    "speechbrain-mfcc": dataclasses.replace(
        _SPEECHBRAIN, num_mels=23, num_cepstra=20, num_deltas=2, delta_width=5, delta_edges="replicate"
    ),
    "whisper": FeatureConfig(
        frames="without_last", fft_length=400, pad_mode="reflect", max_hz=8000.0, log="whisper", range_db=80.0
    ),
    "kaldi": _KALDI,
    "kaldi-mfcc": dataclasses.replace(_KALDI, num_mels=23, num_cepstra=13, lifter=22.0, energy=True),
}
"""Settings by name, as the toolkits have them by default for 16 kHz.

"librosa": ``power_to_db(feature.melspectrogram(…))``; "librosa-mfcc": ``feature.mfcc``; "speechbrain" and
"speechbrain-mfcc": ``lobes.features.Fbank`` with the 80 mels of its recognisers, and ``MFCC`` without context;
"whisper": transformers' ``WhisperFeatureExtractor``, the padding to 30 s left to the caller; "kaldi" and "kaldi-mfcc":
``FbankOptions`` with the 80 mels of most recipes, and ``MfccOptions``, for 16-bit samples and without dither.
"""


def make_features(name: str, **changes: Any) -> FeatureExtractor:
    """Make the features of this name: of ``PRESETS``, "log-mel" (:class:`LogMel`) or "wav2vec2" (:class:`RawWaveform`).

    ``changes`` are fields of :class:`FeatureConfig` that shall be otherwise, or arguments of the class. Raises
    ``ValueError`` for an unknown name or value.

    >>> features, frame_lengths = make_features("whisper", num_mels=40)(torch.zeros(2, 16_000))
    >>> features.shape, frame_lengths.tolist()
    (torch.Size([2, 100, 40]), [100, 100])
    """
    if name == "log-mel":
        return LogMel(**changes)
    if name == "wav2vec2":
        return RawWaveform(**changes)
    if name not in PRESETS:
        raise ValueError(f"there are no features {name!r}; there are {', '.join(sorted(feature_names()))}")
    return Features(dataclasses.replace(PRESETS[name], **changes))


def feature_names() -> tuple[str, ...]:
    """Every name that :func:`make_features` knows."""
    return ("log-mel", *PRESETS, "wav2vec2")


class Features(FeatureExtractor):
    """Log-mel features or cepstra of a padded batch, as a :class:`FeatureConfig` says.

    Waveforms (batch, time) in [-1, 1] give features (batch, frames, num_channels) and frame lengths (batch,).
    """

    window: Tensor
    filters: Tensor
    cepstra: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        window = _window(config.window, config.window_length)
        if config.frames != "whole":
            before = (config.fft_length - config.window_length) // 2
            window = nn.functional.pad(window, (before, config.fft_length - config.window_length - before))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", _filters(config).T.contiguous(), persistent=False)
        if config.num_cepstra:
            matrix = dct_matrix(config.num_cepstra, config.num_mels)
            if config.lifter:
                order = torch.arange(config.num_cepstra) + config.lifter_start
                matrix = matrix * (1.0 + config.lifter / 2.0 * torch.sin(math.pi * order / config.lifter))[:, None]
            self.register_buffer("cepstra", matrix.T.contiguous(), persistent=False)
        static = config.num_cepstra or config.num_mels + config.energy
        self.num_channels = static * (1 + config.num_deltas)
        self.frame_seconds = config.hop_length / config.sample_rate

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Number of frames (batch,) of recordings of so many samples."""
        config = self.config
        if config.frames == "whole":
            return (1 + (lengths - config.window_length).div(config.hop_length, rounding_mode="floor")).clamp_min(0)
        return lengths // config.hop_length + (config.frames == "centred")

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute features (batch, frames, num_channels) and frame lengths (batch,)."""
        config = self.config
        waveform, lengths = masked(waveform, lengths)
        frame_lengths = self.frame_lengths(lengths)
        number = int(self.frame_lengths(torch.tensor(waveform.shape[1])))
        if number == 0:
            return waveform.new_zeros(len(waveform), 0, self.num_channels), frame_lengths
        frames = self._frames(waveform.float() * config.gain, lengths, number)
        if config.remove_offset:
            frames = frames - frames.mean(-1, keepdim=True)
        energy = frames.square().sum(-1).clamp_min(config.floor).log() if config.energy else None
        if config.preemphasis:
            before = torch.cat((frames[..., :1], frames[..., :-1]), -1)
            frames = frames - config.preemphasis * before
        power = power_of(torch.fft.rfft(frames * self.window, n=config.fft_length))
        features = self._logarithm((power @ self.filters).clamp_min(config.floor), frame_lengths)
        if config.num_cepstra:
            features = features @ self.cepstra
            if energy is not None:
                features = torch.cat((energy[..., None], features[..., 1:]), -1)
        elif energy is not None:
            features = torch.cat((energy[..., None], features), -1)
        features = features * valid_frames(frame_lengths, features.shape[1])
        features = with_deltas(
            features, frame_lengths, config.num_deltas, width=config.delta_width, edges=config.delta_edges
        )
        if config.normalization != "none":
            features = normalize(features, frame_lengths, variance=config.normalization == "mean_variance")
        return features, frame_lengths

    def _frames(self, waveform: Tensor, lengths: Tensor, number: int) -> Tensor:
        """Cut waveforms into ``number`` frames, (batch, number, samples)."""
        config = self.config
        time, size = waveform.shape[1], len(self.window)
        if config.frames != "whole":
            half = config.fft_length // 2
            if config.pad_mode == "reflect":
                # Mirrored at the end of each recording, to and fro if the recording is shorter than the window.
                places = torch.arange(-half, time + size - half, device=waveform.device)
                period = (2 * (lengths - 1)).clamp_min(1)[:, None]
                index = places % period
                index = torch.minimum(index, period - index).clamp_max(time - 1)
                reached = places < lengths[:, None] + half
                waveform = waveform.gather(1, index.expand(len(waveform), -1)) * reached
            else:
                waveform = nn.functional.pad(waveform, (half, size - half))
        return waveform.unfold(1, size, config.hop_length)[:, :number]

    def _logarithm(self, power: Tensor, frame_lengths: Tensor) -> Tensor:
        config = self.config
        unit = 1.0 if config.log == "natural" else math.log(10.0) / 10.0
        features = power.log() / unit
        if config.range_db is not None:
            below = torch.where(valid_frames(frame_lengths, power.shape[1]), features, -torch.inf)
            highest = below.amax((1, 2), keepdim=True)
            features = torch.maximum(features, highest - config.range_db * (math.log(10.0) / 10.0) / unit)
        return features / 40.0 + 1.0 if config.log == "whisper" else features


class RawWaveform(FeatureExtractor):
    """The waveform itself at zero mean and unit variance, (batch, time, 1): what wav2vec 2.0 hears.

    Equal to transformers' ``Wav2Vec2FeatureExtractor`` with an attention mask.
    """

    def __init__(self, sample_rate: int = 16_000, *, smallest_variance: float = 1e-7) -> None:
        super().__init__()
        self.num_channels, self.frame_seconds = 1, 1.0 / sample_rate
        self.smallest_variance = smallest_variance

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Number of frames (batch,): that of the samples."""
        return lengths

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Normalise waveforms (batch, time) to (batch, time, 1); what lies behind the end is zeros."""
        waveform, lengths = masked(waveform, lengths)
        number = lengths.clamp_min(1)[:, None]
        valid = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
        waveform = (waveform.float() - waveform.float().sum(1, keepdim=True) / number) * valid
        variance = waveform.square().sum(1, keepdim=True) / number
        return (waveform / (variance + self.smallest_variance).sqrt())[..., None], lengths


class LogMel(FeatureExtractor):
    """Log-mel features of a padded batch, in which padding changes nothing.

    Waveforms (batch, time) in [-1, 1] give features (batch, frames, num_mels) and ``frame_lengths`` (batch,); frames
    are 1 + length // hop_length. Natural logarithms of Slaney mel powers; what lies behind the end is zeros.
    ``normalize`` takes each recording's mean off every mel and divides by the recording's standard deviation over all
    mels, so that neither level nor microphone colours them.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int = 16_000,
        num_mels: int = 80,
        *,
        window_length: int = 400,
        hop_length: int = 160,
        fft_length: int = 512,
        min_hz: float = 20.0,
        floor: float = 1e-10,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.hop_length, self.fft_length, self.floor, self.normalize = hop_length, fft_length, floor, normalize
        self.num_channels, self.frame_seconds = num_mels, hop_length / sample_rate
        self.register_buffer("window", make_window("hann", window_length), persistent=False)
        filters = mel_filterbank(sample_rate, fft_length, num_mels, min_hz=min_hz).T.contiguous()
        self.register_buffer("filters", filters, persistent=False)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Number of frames (batch,) of recordings of so many samples."""
        return 1 + lengths // self.hop_length

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute features (batch, frames, num_mels) and frame lengths (batch,)."""
        time = waveform.shape[1]
        waveform, lengths = masked(waveform, lengths)
        frame_lengths = self.frame_lengths(lengths)
        spectrum = stft(waveform.float(), self.window, self.hop_length, fft_length=self.fft_length)
        power = power_of(spectrum[..., : 1 + time // self.hop_length]).mT
        features = (power @ self.filters).clamp_min(self.floor).log()
        valid = (torch.arange(features.shape[1], device=features.device) < frame_lengths[:, None])[..., None]
        if self.normalize:
            number = frame_lengths[:, None, None].to(features)
            mean = (features * valid).sum(1, keepdim=True) / number
            features = features - mean
            variance = (features.square() * valid).sum((1, 2), keepdim=True) / (number * features.shape[-1])
            features = features / (variance + 1e-5).sqrt()
        return features * valid, frame_lengths


def spec_augment(
    features: Tensor,
    frame_lengths: Tensor,
    *,
    num_mel_masks: int = 2,
    max_mel_width: int = 20,
    num_time_masks: int = 2,
    max_time_width: int = 40,
    max_time_share: float = 0.2,
    generator: Any = None,
) -> Tensor:
    """Blank random bands of mels and stretches of time of features (batch, frames, num_mels), with zeros.

    Widths are uniform from 0 to their maxima, a stretch being at most ``max_time_share`` of its recording; every
    recording has its own. Park et al., SpecAugment (arXiv 1904.08779), section 2, without time warping.
    """
    batch, frames, num_mels = features.shape
    mels = torch.arange(num_mels, device=features.device)
    moments = torch.arange(frames, device=features.device)
    keep = features.new_ones(batch, frames, num_mels, dtype=torch.bool)
    for draws, size, positions, widest in (
        (num_mel_masks, torch.full((batch,), num_mels), mels, torch.full((batch,), max_mel_width)),
        (
            num_time_masks,
            frame_lengths.cpu(),
            moments,
            (max_time_share * frame_lengths.cpu()).clamp(max=max_time_width),
        ),
    ):
        for _ in range(draws):
            width = (torch.rand(batch, generator=generator) * (widest + 1)).floor().clamp(max=size)
            begin = (torch.rand(batch, generator=generator) * (size - width + 1)).floor()
            begin, end = (edge.to(features.device)[:, None] for edge in (begin, begin + width))
            masked = (positions >= begin) & (positions < end)
            keep &= ~(masked[:, None, :] if positions is mels else masked[:, :, None])
    return features * keep


@dataclass(frozen=True)
class SpecAugment:
    """What a recipe may say of :func:`spec_augment`: base of the options of tasks that blank features in training.

    Args:
        num_mel_masks: bands of mels that are blanked in every recording.
        max_mel_width: the widest of them, in mels.
        num_time_masks: stretches of time that are blanked.
        max_time_width: the longest of them, in frames of the features.
    """

    num_mel_masks: int = 2
    max_mel_width: int = 20
    num_time_masks: int = 2
    max_time_width: int = 40

    def blanked(self, features: Tensor, frame_lengths: Tensor) -> Tensor:
        """Blank features (batch, frames, num_mels), of which so many frames are valid, with zeros."""
        return spec_augment(
            features,
            frame_lengths,
            num_mel_masks=self.num_mel_masks,
            max_mel_width=self.max_mel_width,
            num_time_masks=self.num_time_masks,
            max_time_width=self.max_time_width,
        )


def masked(waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Give waveforms (batch, time) with zeros behind the ends, at least a sample long, and their lengths (batch,)."""
    batch, time = waveform.shape
    if lengths is None:
        lengths = torch.full((batch,), time, device=waveform.device, dtype=torch.int64)
    # Not a product, as behind the end may be NaN or infinity.
    waveform = torch.where(torch.arange(time, device=waveform.device) < lengths[:, None], waveform, 0.0)
    return (waveform if time else waveform.new_zeros(batch, 1)), lengths


def _window(name: str, window_length: int) -> Tensor:
    if name == "povey":
        return torch.hann_window(window_length, periodic=False, dtype=torch.float64).pow(0.85).float()
    return make_window(name, window_length)  # type: ignore[arg-type]  # it checks the name itself


def _filters(config: FeatureConfig) -> Tensor:
    arguments = config.sample_rate, config.fft_length, config.num_mels
    if config.filters == "symmetric":
        return symmetric_filterbank(*arguments, min_hz=config.min_hz, max_hz=config.max_hz)
    if config.filters == "kaldi":
        return kaldi_filterbank(*arguments, min_hz=config.min_hz, max_hz=config.max_hz)
    scale: Any = config.filters
    norm: Any = "slaney" if scale == "slaney" else "none"
    return mel_filterbank(*arguments, min_hz=config.min_hz, max_hz=config.max_hz, scale=scale, norm=norm)
