"""Estimates made on purpose: degraded sources, for the range of quality where separators give few examples.

What a degradation does is drawn first, by a NumPy generator, and applied after. Every kind makes all tracks of one
mixture from its true sources (and, where there are some, from a separator's estimates):

- ``leakage``: every other talker and the remainder (noise) leak in, each by -35 to 3 dB;
- ``mask``: the ideal ratio mask (Wang et al. 2014, "On training targets", eq. 4) disturbed by smooth random gains of 1
  to 15 dB, on the mixture;
- ``musical``: random bins of the mixture's ideal binary mask are flipped, which sounds like musical noise;
- ``interpolation``: between the true source and the separator's estimate (or, without one, the mixture), 0 to 1;
- ``swap``: from a random moment on, the tracks change places, as separators do;
- ``mixture``: the mixture itself, in one track or in all;
- ``source``: the source itself, with white noise 25 to 50 dB below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from auriscope.metrics.pit import best_permutation, pairwise
from auriscope.metrics.ratios import si_snr

_FFT, _HOP = 512, 128


@dataclass(frozen=True)
class _Scene:
    mixture: Tensor
    sources: Tensor
    estimates: Tensor | None

    @property
    def tracks(self) -> Tensor:
        """The separator's estimates, or the sources where there are none."""
        return self.sources if self.estimates is None else self.estimates


def degrade(mixture: Tensor, sources: Tensor, rng: np.random.Generator, estimates: Tensor | None = None) -> Tensor:
    """Make degraded tracks by a kind drawn from ``rng``.

    ``mixture`` (time,), ``sources`` and ``estimates`` (sources, time), the latter in the order of the sources; gives
    (sources, time). The same generator state gives the same result.
    """
    names = sorted(_KINDS)
    kind = names[int(rng.choice(len(names), p=[_SHARES[name] for name in names]))]
    return _KINDS[kind](_Scene(mixture, sources, estimates), rng)


def true_si_snr(estimates: Tensor, sources: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """True SI-SNR of every track under the joint permutation with the best sum, and that permutation.

    ``estimates`` and ``sources`` (batch, sources, time); gives (batch, sources) in dB in the order of the estimates,
    NaN where the source is silent, and (batch, sources), the source that belongs to every estimate.
    """
    scores = pairwise(si_snr, estimates, sources, lengths)
    # best_permutation gives each source its estimate; with the roles exchanged it gives each estimate its source.
    permutation = best_permutation(scores.mT)
    return scores.gather(2, permutation[..., None])[..., 0], permutation


def _leakage(scene: _Scene, rng: np.random.Generator) -> Tensor:
    mixture, sources = scene.mixture, scene.sources
    remainder = mixture - sources.sum(0)
    everything = torch.cat([sources, remainder[None]])
    gains = 10 ** (rng.uniform(-35.0, 3.0, size=(len(sources), len(everything))) / 20)
    gains *= rng.choice([-1.0, 1.0], size=gains.shape, p=[0.2, 0.8])
    gains[np.arange(len(sources)), np.arange(len(sources))] = 1.0
    return torch.from_numpy(gains.astype(np.float32)) @ everything


def _mask(scene: _Scene, rng: np.random.Generator) -> Tensor:
    spectrum, powers, remainder = _spectra(scene)
    ideal = (powers / (powers.sum(0) + remainder + 1e-12)).sqrt()
    shape = (len(ideal), 1, ideal.shape[1] // 4 + 1, ideal.shape[2] // 4 + 1)
    coarse = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, ideal.shape[1:], mode="bilinear")[:, 0]
    disturbed = (ideal * 10 ** (float(rng.uniform(1.0, 15.0)) * smooth / 20)).clamp(max=1.0)
    return _inverse(spectrum * disturbed, scene)


def _musical(scene: _Scene, rng: np.random.Generator) -> Tensor:
    spectrum, powers, remainder = _spectra(scene)
    ideal = powers > torch.cat([powers, remainder[None]]).sum(0) - powers
    flipped = torch.from_numpy(rng.random(ideal.shape, dtype=np.float32)) < float(rng.uniform(0.0, 0.4))
    floor = float(10 ** (rng.uniform(-40.0, -6.0) / 20))
    return _inverse(spectrum * (ideal ^ flipped).float().clamp(min=floor), scene)


def _interpolation(scene: _Scene, rng: np.random.Generator) -> Tensor:
    sources = scene.sources
    others = scene.mixture.expand_as(sources) if scene.estimates is None else scene.estimates
    share = torch.from_numpy(rng.random((len(sources), 1), dtype=np.float32))
    # At the scale of the least-squares fit, so that the share means the same for every separator.
    gains = (others * sources).sum(-1, keepdim=True) / others.square().sum(-1, keepdim=True).clamp_min(1e-12)
    return share * gains * others + (1 - share) * sources


def _swap(scene: _Scene, rng: np.random.Generator) -> Tensor:
    tracks = scene.tracks
    moment = int(tracks.shape[-1] * rng.uniform(0.1, 0.9))
    return torch.cat([tracks[:, :moment], tracks.roll(1, 0)[:, moment:]], dim=-1)


def _mixture(scene: _Scene, rng: np.random.Generator) -> Tensor:
    tracks = scene.tracks.clone()
    tracks[torch.from_numpy(rng.random(len(tracks)) < 0.6)] = scene.mixture
    return tracks


def _source(scene: _Scene, rng: np.random.Generator) -> Tensor:
    sources = scene.sources
    noise = torch.from_numpy(rng.standard_normal(sources.shape, dtype=np.float32))
    levels = torch.from_numpy(10 ** (rng.uniform(-50.0, -25.0, size=(len(sources), 1)).astype(np.float32) / 20))
    return sources + noise * levels * sources.square().mean(-1, keepdim=True).sqrt()


_KINDS: dict[str, Callable[[_Scene, np.random.Generator], Tensor]] = {
    "interpolation": _interpolation,
    "leakage": _leakage,
    "mask": _mask,
    "mixture": _mixture,
    "musical": _musical,
    "source": _source,
    "swap": _swap,
}
_SHARES = {
    "interpolation": 0.3,
    "leakage": 0.2,
    "mask": 0.2,
    "mixture": 0.05,
    "musical": 0.1,
    "source": 0.05,
    "swap": 0.1,
}


def _spectra(scene: _Scene) -> tuple[Tensor, Tensor, Tensor]:
    """Give the mixture's STFT and the powers of the sources' and of the remainder's."""
    mixture, sources = scene.mixture, scene.sources
    everything = torch.cat([mixture[None], sources, (mixture - sources.sum(0))[None]])
    spectra = torch.stft(
        everything, _FFT, _HOP, window=torch.hann_window(_FFT), pad_mode="constant", return_complex=True
    )
    return spectra[0], spectra[1:-1].abs().square(), spectra[-1].abs().square()


def _inverse(spectra: Tensor, scene: _Scene) -> Tensor:
    return torch.istft(spectra, _FFT, _HOP, window=torch.hann_window(_FFT), length=scene.mixture.shape[-1])
