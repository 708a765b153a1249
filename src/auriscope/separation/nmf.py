"""Non-negative matrix factorisation: a spectrogram as a few spectra, each switched on and off over time.

A non-negative matrix X (frequencies x frames) is approximated by W H: the columns of the **dictionary** W are spectra,
the rows of the **activations** H say when and how loudly each sounds. Both start anywhere positive and are multiplied,
in turns, by factors under which the divergence of X from W H never rises.

Sources: D. Lee, H. Seung, "Algorithms for non-negative matrix factorization", NIPS 2000; C. Févotte, J. Idier,
"Algorithms for nonnegative matrix factorization with the beta-divergence", Neural Computation 23(9), 2011 (section 4:
the multiplicative updates by majorisation-minimisation, with the exponent 1/2 for Itakura-Saito); P. Smaragdis,
B. Raj, M. Shashanka, "Supervised and semi-supervised separation of sounds from single-channel mixtures", ICA 2007
(dictionaries learnt on isolated sources); C. Févotte, N. Bertin, J.-L. Durrieu, "Nonnegative matrix factorization with
the Itakura-Saito divergence", Neural Computation 21(3), 2009 (Wiener reconstruction, section 2.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.nn.masks import choice, length_mask
from auriscope.separation.fitted import FittedSeparator, finite
from auriscope.signal.stft import STFT

DIVERGENCES = ("euclidean", "kullback-leibler", "itakura-saito")

# What a model of the matrix is at least, so that it can be divided by (scikit-learn has the same).
_SMALLEST_MODEL = torch.finfo(torch.float32).eps
# Factors below this are zero, where a negative power of them would otherwise grow without end (as in scikit-learn).
_SMALLEST_FACTOR = torch.finfo(torch.float64).eps
_TILE = 1 << 19
"""Values of the matrix that are worked on at once on a CPU: they stay in its second cache."""


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


@dataclass(frozen=True)
class Factors:
    """A factorisation: ``dictionary`` (batch, F, components), ``activations`` (batch, components, frames).

    ``divergence`` (batch,) is that of the matrix from their product, summed over its entries.
    """

    dictionary: Tensor
    activations: Tensor
    divergence: Tensor


@torch.no_grad()
def factorize(
    matrix: Tensor,
    num_components: int | None = None,
    *,
    divergence: str = "kullback-leibler",
    num_iterations: int = 200,
    dictionary: Tensor | None = None,
    activations: Tensor | None = None,
    learn_dictionary: bool = True,
    seed: int = 0,
) -> Factors:
    """Factorise every non-negative matrix of a batch by multiplicative updates, the dictionary first in each iteration.

    Shapes: ``matrix`` (batch, F, frames). ``dictionary`` (batch, F, components) and ``activations``
    (batch, components, frames) are where to start, drawn from ``seed`` where not given; ``learn_dictionary=False``
    keeps the dictionary and needs it. With the same start it goes through the same factors as scikit-learn's
    ``NMF(solver="mu")``. Raises ``AuriscopeError`` for negative or non-finite values, and for Itakura-Saito for zeros,
    which are infinitely far from any model.

    >>> matrix = torch.tensor([[[1.0, 0.0, 2.0], [2.0, 0.0, 4.0], [0.0, 3.0, 0.0]]])
    >>> factorize(matrix, 2, divergence="euclidean").divergence.item() < 1e-3
    True
    """
    choice(divergence, DIVERGENCES, "divergence")
    finite(matrix, "the matrix")
    lowest = matrix.min() if matrix.numel() else 0
    if lowest < 0 or (divergence == "itakura-saito" and lowest <= 0):
        raise AuriscopeError(f"the matrix holds {lowest:g}, which NMF with divergence {divergence} cannot model")
    if dictionary is not None:
        num_components = dictionary.shape[-1]
    if num_components is None or (dictionary is None and not learn_dictionary):
        raise ValueError("give num_components, or a dictionary")
    batch, size, frames = matrix.shape
    generator = torch.Generator().manual_seed(seed)
    level = (matrix.mean((1, 2)) / num_components).sqrt().reshape(-1, 1, 1)

    def drawn(*shape: int) -> Tensor:
        return level * torch.randn(shape, generator=generator).abs().to(matrix)

    w = drawn(batch, size, num_components) if dictionary is None else dictionary.clone()
    h = drawn(batch, num_components, frames) if activations is None else activations.clone()
    whole = matrix
    if batch == 1:
        # The product of two matrices is quicker than that of two batches of one: see _product.
        matrix, w, h = matrix[0], w[0], h[0]
    if divergence == "euclidean":
        # Frame by frame in memory: so the BLAS is a tenth quicker at both products with the matrix.
        h = h.mT.contiguous().mT
    room = _room(matrix, w, h, divergence)
    # Of a dictionary that stays, what the activations' update needs of it alone is worked out once.
    facts = None if learn_dictionary else _dictionary_facts(matrix, w, divergence)
    for _ in range(num_iterations):
        if learn_dictionary:
            _update_dictionary(matrix, w, h, divergence, room)
        _update_activations(matrix, w, h, divergence, facts or _dictionary_facts(matrix, w, divergence, room[4]), room)
    reached = divergence_of(whole, _product(w, h).view_as(whole), divergence)
    return Factors(w.reshape(batch, size, -1), h.reshape(batch, -1, frames), reached)


def divergence_of(matrix: Tensor, model: Tensor, divergence: str) -> Tensor:
    """Give the divergence (batch,) of a matrix from its model, both (batch, F, frames), summed over the entries.

    With x of the matrix and y of the model: (x - y)²/2; x log(x/y) - x + y; or x/y - log(x/y) - 1 (Févotte and Idier
    2011, equation 1, the beta-divergence for beta = 2, 1 and 0).
    """
    if divergence == "euclidean":
        distances = (matrix - model).square_().div_(2)
        return distances.sum((1, 2), dtype=torch.float64)
    model = model.clamp(min=_SMALLEST_MODEL)
    if divergence == "kullback-leibler":
        distances = torch.special.xlogy(matrix, matrix / model) - matrix + model
    else:
        ratio = matrix / model
        distances = ratio - ratio.log() - 1
    return distances.sum((1, 2), dtype=torch.float64)


def _tiles(matrix: Tensor) -> list[slice]:
    """Cut the frames so that what is computed of a tile stays in the cache."""
    frames = matrix.shape[-1]
    width = frames if matrix.device.type != "cpu" else max(64, _TILE * frames // max(1, matrix.numel()))
    return [slice(begin, begin + width) for begin in range(0, frames, width)]


def _room(matrix: Tensor, w: Tensor, h: Tensor, divergence: str) -> tuple[Tensor, ...]:
    """Memory for what every update computes anew: asked for each time, it would cost a tenth of the updates' time.

    Two tensors like a tile of the matrix (none for the Euclidean distance, which needs no model of it), two like the
    dictionary, two like the activations.
    """
    tile = matrix[..., :0] if divergence == "euclidean" else matrix[..., _tiles(matrix)[0]]
    return tuple(torch.empty_like(like) for like in (tile, w, h) for _ in range(2))


def _product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Multiply matrices; single ones on a CPU through numpy, whose BLAS is a fifth quicker here than torch's.

    Measured on an AMD EPYC with torch 2.13 (MKL) and numpy 2.4 (OpenBLAS); ``benchmarks/classical_speed.py`` shows it.
    """
    if a.dim() != 2 or a.device.type != "cpu":
        return torch.matmul(a, b, out=out)
    if out is None:
        return torch.from_numpy(a.numpy() @ b.numpy())
    np.matmul(a.numpy(), b.numpy(), out=out.numpy())
    return out


def _weights(
    matrix: Tensor, w: Tensor, h: Tensor, divergence: str, room: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor | None]:
    """Give x y^(beta - 2) and, where it is not 1, y^(beta - 1), of the model y = W H."""
    first, second = (part[..., : matrix.shape[-1]] for part in room[:2])
    model = _product(w, h, first).clamp_(min=_SMALLEST_MODEL)
    if divergence == "kullback-leibler":
        return torch.div(matrix, model, out=model), None
    inverse = model.reciprocal_()
    return torch.mul(inverse, inverse, out=second).mul_(matrix), inverse


def _update_dictionary(matrix: Tensor, w: Tensor, h: Tensor, divergence: str, room: tuple[Tensor, ...]) -> None:
    numerator, denominator = room[2:4]
    if divergence == "euclidean":
        _product(matrix, h.mT, numerator)
        w *= _quotient(numerator, _product(w, _product(h, h.mT), denominator))
        return
    numerator.zero_()
    denominator.zero_()
    for tile in _tiles(matrix):
        part = h[..., tile]
        ratio, inverse = _weights(matrix[..., tile], w, part, divergence, room)
        numerator += _product(ratio, part.mT)
        if inverse is not None:
            denominator += _product(inverse, part.mT)
    if divergence == "kullback-leibler":
        w *= _quotient(numerator, h.sum(-1).unsqueeze(-2))
    else:
        w *= _quotient(numerator, denominator).sqrt_()
        torch.threshold_(w, _SMALLEST_FACTOR, 0)


def _dictionary_facts(
    matrix: Tensor, w: Tensor, divergence: str, numerator: Tensor | None = None
) -> tuple[Tensor, ...]:
    """What the update of the activations needs of the dictionary alone; ``numerator`` is where its own may be put."""
    if divergence == "euclidean":
        turned = None if numerator is None else numerator.mT
        return _product(matrix.mT, w, turned).mT, _product(w.mT, w)
    if divergence == "kullback-leibler":
        total = w.sum(-2).unsqueeze(-1)
        return (torch.where(total == 0, 1.0, total),)
    return ()


def _update_activations(
    matrix: Tensor, w: Tensor, h: Tensor, divergence: str, facts: tuple[Tensor, ...], room: tuple[Tensor, ...]
) -> None:
    numerator, denominator = room[4:]
    if divergence == "euclidean":
        _product(h.mT, facts[1], denominator.mT)  # The Gram matrix is symmetric.
        h *= torch.div(facts[0], torch.threshold_(denominator, 0, _SMALLEST_MODEL), out=numerator)
        return
    for tile in _tiles(matrix):
        part = h[..., tile]
        ratio, inverse = _weights(matrix[..., tile], w, part, divergence, room)
        gain = _product(w.mT, ratio, numerator[..., tile])
        if inverse is None:
            part *= gain.div_(facts[0])
        else:
            part *= _quotient(gain, _product(w.mT, inverse, denominator[..., tile])).sqrt_()
    torch.threshold_(h, _SMALLEST_FACTOR, 0)


def _quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide non-negative numbers in place; zero as a denominator counts as the smallest model, and becomes it."""
    return numerator.div_(torch.threshold_(denominator, 0, _SMALLEST_MODEL))


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
            self.dictionaries[source] = found / found.sum(0).clamp(min=_SMALLEST_FACTOR)
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
    return (matrix + _SMALLEST_MODEL if divergence == "itakura-saito" else matrix), level


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
