"""Separation by NMF: a spectrogram as a few spectra, each switched on and off over time (:mod:`auriscope.nn.nmf`).

Sources: C. Févotte, J. Idier, "Algorithms for nonnegative matrix factorization with the beta-divergence", Neural
Computation 23(9), 2011; P. Smaragdis, B. Raj, M. Shashanka, "Supervised and semi-supervised separation of sounds from
single-channel mixtures", ICA 2007 (dictionaries learnt on isolated sources); C. Févotte, N. Bertin, J.-L. Durrieu,
"Nonnegative matrix factorization with the Itakura-Saito divergence", Neural Computation 21(3), 2009 (Wiener
reconstruction, section 2.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.nn.masks import choice, length_mask
from auriscope.nn.nmf import DIVERGENCES, SMALLEST_FACTOR, SMALLEST_MODEL, factorize, finite
from auriscope.separation.fitted import FittedSeparator
from auriscope.signal.stft import STFT


@dataclass(frozen=True)
class NMFConfig:
    """The configuration of separation by NMF.

    ``num_components`` spectra stand for each of ``num_sources`` sources. ``divergence`` is ``"euclidean"`` or
    ``"kullback-leibler"``, on magnitudes, or ``"itakura-saito"``, on powers. ``fit_iterations`` learn a dictionary,
    ``iterations`` find the activations of a mixture; ``window_length`` and ``hop_length`` are in samples.
    """

    sample_rate: int = 16000
    num_sources: int = 2
    num_components: int = 50
    window_length: int = 1024
    hop_length: int = 256
    divergence: str = "kullback-leibler"
    fit_iterations: int = 200
    iterations: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        choice(self.divergence, DIVERGENCES, "divergence")
        for name in ("num_sources", "num_components", "fit_iterations", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


class NMF(FittedSeparator, name="separation/nmf"):
    """Supervised separation by NMF: a dictionary for every source, learnt where it sounds alone.

    ``fit`` learns each source's spectra from isolated recordings of it; of a mixture only the activations are found,
    and every source gets the share of the mixture's spectrum that its spectra explain (a Wiener mask on powers), with
    the mixture's phase. Sources must differ in their spectra: voices of the same kind hardly do. Literature: see the
    module. Its factorisation goes through the same factors as scikit-learn's.
    """

    Config = NMFConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_components": 4,
        "window_length": 128,
        "hop_length": 32,
        "fit_iterations": 20,
        "iterations": 20,
    }
    dictionaries: Tensor

    def __init__(self, config: NMFConfig) -> None:
        super().__init__(config)
        self.stft = STFT(config.window_length, config.hop_length)
        size = self.stft.num_frequencies
        self.register_buffer("dictionaries", torch.zeros(config.num_sources, size, config.num_components))

    def fit(self, *signals: Tensor, lengths: Tensor | None = None) -> Self:
        """Learn the dictionaries from isolated sources (batch, sources, time), which need not belong together.

        ``lengths`` (batch,) are the valid samples. Raises ``AuriscopeError`` when the sources are not ``num_sources``,
        not finite, or one of them is silent.
        """
        (sources,) = signals
        if sources.dim() != 3 or sources.shape[1] != self.config.num_sources:
            raise AuriscopeError(f"the sources {tuple(sources.shape)} are not (batch, {self.config.num_sources}, time)")
        spectrum = self._spectrum(finite(sources, "the recording of a source"), lengths)
        heard = self._heard(spectrum, lengths)
        for source in range(self.config.num_sources):
            frames = spectrum[:, source].transpose(1, 2)[heard]
            if not frames.any():
                raise AuriscopeError(f"the recordings of source {source + 1} are silent")
            found = factorize(
                spectrogram(frames.T.unsqueeze(0), self.config.divergence)[0],
                self.config.num_components,
                divergence=self.config.divergence,
                num_iterations=self.config.fit_iterations,
                seed=self.config.seed,
            ).dictionary[0]
            self.dictionaries[source] = found / found.sum(0).clamp(min=SMALLEST_FACTOR)
        return self

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate a mixture (batch, time) into estimates (batch, sources, time), whose sum is the mixture.

        What lies beyond ``lengths`` (batch,) comes out as zeros.
        """
        spectrum = self._spectrum(mixture, lengths)
        models = torch.einsum("sfc,bsct->bsft", self.dictionaries, self._activate(spectrum))
        masked = wiener_masks(models, self.config.divergence) * spectrum.unsqueeze(1)
        if lengths is None:
            return self.stft.inverse(masked, mixture.shape[-1])
        # The ends of a recording are weighed by its own frames: each is brought back by itself.
        estimates = mixture.new_zeros(len(mixture), self.config.num_sources, mixture.shape[-1])
        frame_lengths = self.stft.frame_lengths(lengths)
        for item, (length, frames) in enumerate(zip(lengths.tolist(), frame_lengths.tolist(), strict=True)):
            estimates[item, :, :length] = self.stft.inverse(masked[item, ..., :frames], length)
        return estimates

    def activations(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Say how loudly every spectrum sounds when: mixtures (batch, time) to (batch, sources, components, frames).

        In units of a frame's summed magnitude (or power), as every spectrum of a dictionary sums to 1.
        """
        spectrum = self._spectrum(mixture, lengths)
        return self._activate(spectrum) * self._heard(spectrum, lengths)[:, None, None]

    def _spectrum(self, waveform: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is not None:
            mask = length_mask(lengths, waveform.shape[-1])
            waveform = torch.where(mask if waveform.dim() == 2 else mask[:, None], waveform, 0.0)
        spectrum: Tensor = self.stft(waveform)
        return spectrum

    def _heard(self, spectrum: Tensor, lengths: Tensor | None) -> Tensor:
        """Which frames (batch, frames) begin before the end of the recording."""
        frames = spectrum.shape[-1]
        if lengths is None:
            return torch.ones(len(spectrum), frames, dtype=torch.bool, device=spectrum.device)
        return length_mask(self.stft.frame_lengths(lengths), frames).bool()

    def _activate(self, spectrum: Tensor) -> Tensor:
        """Find the activations (batch, sources, components, frames) of a spectrum (batch, F, frames)."""
        self._require_fit(self.dictionaries)
        # Frames do not know of each other when the dictionary is given: each has its own scale, and the batch is one
        # long matrix.
        batch, size, frames = spectrum.shape
        matrix, level = spectrogram(spectrum, self.config.divergence, dim=(1,))
        matrix = matrix.transpose(0, 1).reshape(1, size, -1)
        dictionary = self.dictionaries.transpose(0, 1).reshape(1, size, -1)
        start = matrix.new_ones(1, dictionary.shape[-1], matrix.shape[-1])
        found = factorize(
            matrix,
            divergence=self.config.divergence,
            num_iterations=self.config.iterations,
            dictionary=dictionary,
            activations=start,
            learn_dictionary=False,
        ).activations
        return found.reshape(self.config.num_sources, -1, batch, frames).movedim(2, 0) * level.unsqueeze(1)


def spectrogram(spectrum: Tensor, divergence: str, dim: tuple[int, ...] = (1, 2)) -> tuple[Tensor, Tensor]:
    """Give the matrix that is factorised of a complex spectrum (batch, F, frames), and the level it was divided by.

    Magnitudes, or for Itakura-Saito powers, scaled to a mean of 1 over ``dim``, so that quiet recordings (over both) or
    quiet frames (over frequency alone) are not lost in rounding.
    """
    matrix = spectrum.abs().square() if divergence == "itakura-saito" else spectrum.abs()
    level = matrix.mean(dim, keepdim=True).clamp(min=1e-20)
    matrix = matrix / level
    # Digital silence has no power, from which Itakura-Saito's divergence would be infinite.
    return (matrix + SMALLEST_MODEL if divergence == "itakura-saito" else matrix), level


def wiener_masks(models: Tensor, divergence: str) -> Tensor:
    """Turn models (batch, sources, F, frames) of the sources' spectrograms into their shares of the power."""
    powers = models if divergence == "itakura-saito" else models.square()
    powers = powers + 1e-20
    return powers / powers.sum(1, keepdim=True)


def decompose(mixture: Tensor, num_components: int, config: NMFConfig | None = None) -> Tensor:
    """Split mixtures (batch, time) into the tracks of spectra learnt from them alone, (batch, components, time).

    Nothing is known of the sources: every track is what one spectrum explains, such as a note or a drum. The tracks
    sum to the mixture.
    """
    config = config or NMFConfig()
    transform = STFT(config.window_length, config.hop_length).to(mixture.device)
    spectrum = transform(finite(mixture, "the mixture"))
    found = factorize(
        spectrogram(spectrum, config.divergence)[0],
        num_components,
        divergence=config.divergence,
        num_iterations=config.fit_iterations,
        seed=config.seed,
    )
    models = found.dictionary.mT.unsqueeze(-1) * found.activations.unsqueeze(2)
    return transform.inverse(wiener_masks(models, config.divergence) * spectrum.unsqueeze(1), mixture.shape[-1])
