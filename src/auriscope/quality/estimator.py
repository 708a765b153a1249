"""Our blind SI-SNR estimator: how good is a separated track, without ground truth.

The task is that of REAL-M (Subakan et al. 2022, section 3; :mod:`auriscope.quality.realm` is the paper's network):
f(mixture, estimate) ~ SI-SNR(estimate, source). Four things are ours. The input is described where a listener would
look: band energies of mixture, track, residual and the other tracks, and how coherent they are, from one STFT with
62.5 frames per second, about thirty times fewer frames than the time-domain network. Pooling weighs frames by the
track's energy too, as SI-SNR itself does. The output is linear, so nothing saturates. And the network predicts the
scale of its own error (a Laplace distribution, as in Kendall and Gal 2017, section 2.2, with the L1 of the paper).

With a speaker model it is also told how alike voices are: of two tracks, of both halves of a track, of a track and the
mixture. Talkers who are alike are separated badly, and who changes in the middle of a track was not separated.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.errors import CheckpointError
from auriscope.pretrained.addresses import load
from auriscope.pretrained.model import Model
from auriscope.quality.calibration import Calibration, Prediction, input_statistics
from auriscope.signal.mel import hz_to_mel, mel_filterbank, mel_to_hz

_NUM_MAPS = 8
_NUM_GLOBALS = 7
_NUM_COMPANY = 8
_SHORTEST_VOICE_SECONDS = 0.25
"""Of less sound a speaker model can hardly tell a voice."""


@dataclass(frozen=True)
class SiSnrConfig:
    """``minimum_db`` to ``maximum_db`` is the range of SI-SNR that is vouched for; outputs beyond it are flagged.

    Training goes ``margin_db`` further, where targets are clipped. ``window_seconds`` is the longest excerpt seen in
    training: longer recordings are scored window by window. ``voices`` is the address of a speaker model of the same
    sample rate, such as ``"speaker/ecapa.mini"``, that tells how alike voices are; its weights are not the estimator's
    and are loaded when they are first needed. None: voices are not compared.
    """

    sample_rate: int = 16000
    window_seconds: float = 4.0
    fft_size: int = 512
    hop: int = 256
    num_bands: int = 64
    num_maps: tuple[int, ...] = (24, 48, 48)
    num_channels: int = 128
    num_blocks: int = 4
    num_embedding: int = 64
    minimum_db: float = -10.0
    maximum_db: float = 30.0
    margin_db: float = 5.0
    voices: str | None = None


class _Block(nn.Module):
    """A residual dilated convolution over frames, normalised frame by frame, so that padding cannot leak in."""

    def __init__(self, num_channels: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(num_channels)
        self.conv = nn.Conv1d(num_channels, num_channels, 3, padding=dilation, dilation=dilation)

    def forward(self, hidden: Tensor, inside: Tensor) -> Tensor:
        """(batch, channels, frames) and (batch, 1, frames) -> (batch, channels, frames)."""
        normalised = self.norm(hidden.mT).mT * inside
        return (hidden + torch.relu(self.conv(normalised))) * inside


class SiSnrEstimator(Model, name="quality/sisnr"):
    """STFT features of mixture, track, residual and other tracks; convolutions; weighted pooling; score and scale.

    Scores do not change with the gain (or sign) of the mixture or of any track; permuting the tracks permutes the
    scores. A track is judged in the company of the others: they tell what leaked into it.
    """

    Config = SiSnrConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_bands": 16,
        "num_maps": (4, 4),
        "num_channels": 12,
        "num_blocks": 2,
        "num_embedding": 8,
    }
    Published: ClassVar[dict[str, float]] = {
        "Pearson on LibriMix, pooled (R6)": 0.82,
        "Pearson on WHAMR!, pooled (R6)": 0.84,
    }

    bands: Tensor
    window: Tensor

    def __init__(self, config: SiSnrConfig) -> None:
        super().__init__(config)
        self.sample_rate = config.sample_rate
        self.register_buffer("window", torch.hann_window(config.fft_size), persistent=False)
        self.register_buffer("bands", _bands(config), persistent=False)
        convolutions: list[nn.Module] = []
        num_inputs, num_rows = _NUM_MAPS, config.num_bands
        for num_outputs in config.num_maps:
            convolutions.append(nn.Conv2d(num_inputs, num_outputs, 3, stride=(2, 1), padding=1))
            num_inputs, num_rows = num_outputs, (num_rows + 1) // 2
        self.convolutions = nn.ModuleList(convolutions)
        self.projection = nn.Linear(num_inputs * num_rows, config.num_channels)
        self.blocks = nn.ModuleList(_Block(config.num_channels, 2**index) for index in range(config.num_blocks))
        self.norm = nn.LayerNorm(config.num_channels)
        self.hidden = nn.Linear(4 * config.num_channels + _NUM_GLOBALS, 2 * config.num_channels)
        # It begins with zeros: an estimator without it goes on from where it was.
        self.company = nn.Linear(_NUM_COMPANY, 2 * config.num_channels, bias=False) if config.voices else None
        if self.company is not None:
            nn.init.zeros_(self.company.weight)
        self.embedding = nn.Linear(2 * config.num_channels, config.num_embedding)
        self.output = nn.Linear(config.num_embedding, 2)
        self.calibration = Calibration(config.num_embedding)

    def forward(self, mixture: Tensor, estimates: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Estimate the SI-SNR of every track: (batch, time), (batch, sources, time) -> (batch, sources) in dB.

        Unbounded, trained for ``minimum_db`` to ``maximum_db``, finite for every finite input (silence included).
        ``lengths`` (batch,) masks padding.
        """
        return self.distribution(mixture, estimates, lengths)[0]

    def distribution(
        self, mixture: Tensor, estimates: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Score and Laplace scale in dB, both (batch, sources), and the embedding (batch, sources, dim)."""
        batch, num_sources, _ = estimates.shape
        lengths = _lengths(mixture, lengths)
        with torch.autocast(mixture.device.type, enabled=False):
            maps, weights, overall, company = self._features(mixture.float(), estimates.float(), lengths)
        inside = _inside(maps.shape[-1], lengths // self.config.hop + 1)
        inside = inside.repeat_interleave(num_sources, dim=0)[:, None].to(maps.dtype)
        hidden = maps.flatten(0, 1) * inside[:, None]
        for convolution in self.convolutions:
            hidden = torch.relu(convolution(hidden)) * inside[:, None]
        hidden = self.projection(hidden.flatten(1, 2).mT).mT * inside
        for block in self.blocks:
            hidden = block(hidden, inside)
        hidden = self.norm(hidden.mT).mT
        uniform = inside[:, 0] / inside[:, 0].sum(-1, keepdim=True)
        pooled = torch.cat(
            [*_pool(hidden, uniform), *_pool(hidden, weights.flatten(0, 1)), overall.flatten(0, 1)], dim=-1
        )
        hidden = self.hidden(pooled)
        if self.company is not None:
            hidden = hidden + self.company(company.flatten(0, 1))
        embedding = torch.relu(self.embedding(torch.relu(hidden)))
        score, scale = self.output(embedding).float().reshape(batch, num_sources, 2).unbind(-1)
        # In units of 10 dB around 5 dB the output starts near the data; the scale stays within 0.25 and 25 dB.
        return 5.0 + 10.0 * score, torch.exp(0.92 + 2.3 * torch.tanh(scale)), embedding.reshape(batch, num_sources, -1)

    @torch.no_grad()
    def predict(self, mixture: Tensor, estimates: Tensor, lengths: Tensor | None = None) -> Prediction:
        """Estimate with expected error and range flags, from the inputs of ``forward``."""
        lengths = _lengths(mixture, lengths)
        score, scale, embedding = self.distribution(mixture, estimates, lengths)
        statistics = input_statistics(mixture, estimates, lengths, self.sample_rate)
        beyond = (score < self.config.minimum_db) | (score > self.config.maximum_db)
        outside = torch.cat([beyond[..., None], self.calibration.outside(embedding, statistics)], dim=-1)
        return Prediction(score, scale * self.calibration.error_factor.float(), outside)

    def _features(self, mixture: Tensor, estimates: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Maps (batch, sources, maps, bands, frames), frame weights (batch, sources, frames), globals, and company.

        The last two are (batch, sources, numbers); what tracks have to do with each other is empty without voices.

        With x the mixture and e the tracks, both at unit power, the gains g are the (slightly damped) least-squares
        fit x ~ sum g e. They say what is left without the track, r = x - g e, what the others hold, o, and what no
        track holds, n. Everything after the gains is linear, so one STFT of x and e suffices.
        """
        mixture = _unit_power(mixture[:, None], lengths)
        estimates = _unit_power(estimates, lengths)
        count = lengths.clamp_min(1)[:, None, None]
        gram = estimates @ estimates.mT / count
        cross = estimates @ mixture.mT / count
        damping = 0.01 * torch.eye(gram.shape[-1], device=gram.device)
        gains = torch.linalg.solve(gram + damping, cross)
        estimates = torch.where(gains < 0, -estimates, estimates)
        gains = gains.abs()
        x = self._stft(mixture)
        e = self._stft(estimates)
        scaled = gains[..., None] * e
        total = scaled.sum(1, keepdim=True)
        r, o, n = x - scaled, total - scaled, (x - total).expand_as(e)
        x = x.expand_as(e)
        p_x, p_e, p_r, p_o, p_n = (self._energy(signal, signal) for signal in (x, e, r, o, n))
        maps = [_log(power) for power in (p_x, p_e, p_r, p_o, p_n)]
        for other, power in ((x, p_x), (r, p_r), (o, p_o)):
            maps.append(self._energy(e, other) / (p_e * power + 1e-12).sqrt())
        inside = _inside(p_e.shape[-1], lengths // self.config.hop + 1)[:, None]
        weights = (p_e.sum(-2) + 1e-6) * inside
        weights = weights / weights.sum(-1, keepdim=True)
        num_values = self.config.num_bands * (lengths[:, None] // self.config.hop + 1)
        powers = [_log((power.sum(-2) * inside).sum(-1) / num_values) for power in (p_r, p_o, p_n)]
        similar = (gram.abs() * (1 - torch.eye(gram.shape[-1], device=gram.device))).sum(-1)
        overall = [*powers, cross[..., 0].abs(), gains[..., 0], similar, gram.diagonal(dim1=1, dim2=2)]
        company = maps[0].new_zeros(*gains.shape, 0)
        if self.config.voices:
            # How much of the spectra's power lies in the same place, and how peaked they are.
            shared = ((p_e * p_o).clamp_min(0).sqrt().sum(-2) * inside).sum(-1)
            shared = shared / ((p_e.sum(-2) * inside).sum(-1) * (p_o.sum(-2) * inside).sum(-1) + 1e-12).sqrt()
            peaked = [(maps[place].sum(-2) * inside).sum(-1) / num_values for place in (1, 3)]
            spectral = torch.stack([shared, *peaked], dim=-1)
            company = torch.cat([spectral, self._likeness(mixture[:, 0], estimates, lengths)], dim=-1)
        return torch.stack(maps, dim=2), weights, torch.stack(overall, dim=-1), company

    @torch.no_grad()
    def _likeness(self, mixture: Tensor, estimates: Tensor, lengths: Tensor) -> Tensor:
        """How alike voices are, cosines (batch, sources, 5); 0 where there are no others, or too little sound.

        Of a track and the mixture, of the others and the mixture, of the track and the others, of the track's two
        halves, and of the others' halves; of others the mean.
        """
        batch, num_sources, _ = estimates.shape
        model = _speaker_model(str(self.config.voices), self.sample_rate, mixture.device)
        halves, size = lengths // 2, max(1, int(lengths.max()) // 2)
        starts = torch.stack([torch.zeros_like(halves), halves], dim=1)
        places = (starts[..., None] + torch.arange(size, device=mixture.device)).flatten(1)
        places = places[:, None].expand(-1, num_sources, -1).clamp_max(estimates.shape[-1] - 1)
        parts, sizes = estimates.gather(-1, places).reshape(-1, size), halves.repeat_interleave(2 * num_sources)
        voices = _embedded(model, parts * _inside(size, sizes), sizes)
        first, second = voices.reshape(batch, num_sources, 2, -1).unbind(2)
        tracks = F.normalize(first + second, dim=-1)
        whole = _embedded(model, mixture, lengths)
        alike = tracks @ tracks.mT
        own = (tracks @ whole[..., None])[..., 0]
        steady = (first * second).sum(-1)
        count = max(1, num_sources - 1)
        others = [(values.sum(1, keepdim=True) - values) / count for values in (own, steady)]
        between = (alike.sum(-1) - alike.diagonal(dim1=1, dim2=2)) / count
        found = torch.stack([own, others[0], between, steady, others[1]], dim=-1)
        enough = halves >= _SHORTEST_VOICE_SECONDS * self.config.sample_rate
        return torch.where(enough[:, None, None], found, 0.0)

    def _stft(self, signals: Tensor) -> Tensor:
        """(batch, sources, time) -> complex (batch, sources, bins, frames), scaled to unit power for white noise."""
        spectrum: Tensor = torch.stft(
            signals.flatten(0, 1),
            self.config.fft_size,
            self.config.hop,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.reshape(*signals.shape[:2], *spectrum.shape[1:]) / self.window.square().sum().sqrt()

    def _energy(self, first: Tensor, second: Tensor) -> Tensor:
        """Real cross power in bands: two (batch, sources, bins, frames) -> (batch, sources, bands, frames)."""
        return self.bands @ (first.real * second.real + first.imag * second.imag)


def _bands(config: SiSnrConfig) -> Tensor:
    """Mel bands (HTK) as averages, rows of unit sum: (bands, bins)."""
    bands = mel_filterbank(config.sample_rate, config.fft_size, config.num_bands, scale="htk", norm=None).clone()
    # The lowest triangles can lie between two bins: those bands take the bin nearest to their centre.
    highest = hz_to_mel(torch.tensor(config.sample_rate / 2), "htk")
    centres = mel_to_hz(torch.linspace(0.0, 1.0, config.num_bands + 2)[1:-1] * highest, "htk")
    nearest = (centres * config.fft_size / config.sample_rate).round().long()
    bands[torch.arange(config.num_bands), nearest] += 1e-3
    return bands / bands.sum(-1, keepdim=True)


@functools.cache
def _speaker_model(address: str, sample_rate: int, device: torch.device) -> Any:
    """The speaker model of an address on a device, shared by all estimators: its weights never change."""
    model = load(address, device=device).requires_grad_(False)
    if model.name.partition("/")[0] != "speaker":
        raise CheckpointError(f"{address}: is no speaker model; voices are compared by one, such as speaker/ecapa.mini")
    own_rate = int(getattr(model.config, "sample_rate", 0))
    if own_rate != sample_rate:
        raise CheckpointError(
            f"{address}: works at {own_rate} Hz and the estimator at {sample_rate} Hz; choose two of one rate"
        )
    return model


def _embedded(model: Any, waveform: Tensor, lengths: Tensor) -> Tensor:
    """Embeddings (batch, dim) of unit length of waveforms (batch, time); silence has one too."""
    return torch.nan_to_num(F.normalize(model(waveform, lengths).float(), dim=-1))


def _lengths(mixture: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return torch.full((len(mixture),), mixture.shape[-1], dtype=torch.int64, device=mixture.device)
    return lengths


def _inside(size: int, counts: Tensor) -> Tensor:
    return torch.arange(size, device=counts.device) < counts[:, None]


def _unit_power(signals: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit power within lengths, zero beyond; silence stays silence."""
    inside = _inside(signals.shape[-1], lengths)[:, None]
    count = lengths.clamp_min(1)[:, None, None].to(signals.dtype)
    signals = signals * inside
    signals = (signals - signals.sum(-1, keepdim=True) / count) * inside
    # Scaling by the peak first keeps the squares of very quiet recordings away from underflow.
    signals = signals / signals.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    return signals / (signals.square().sum(-1, keepdim=True) / count).clamp_min(1e-12).sqrt()


def _log(power: Tensor) -> Tensor:
    """Power to about -2 ... 3: decibels over -30 dB, in units of 20 dB, with a floor at -70 dB."""
    return (10 * torch.log10(power.clamp_min(0) + 1e-7) + 30) / 20


def _pool(hidden: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation over frames: (batch, channels, frames), (batch, frames) -> 2 (batch, C)."""
    mean = (hidden * weights[:, None]).sum(-1)
    variance = ((hidden - mean[..., None]).square() * weights[:, None]).sum(-1)
    return mean, (variance + 1e-6).sqrt()
