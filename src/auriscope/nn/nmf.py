"""Non-negative matrix factorisation: a matrix as a few columns, each in a varying amount.

A non-negative matrix X (frequencies x frames) is approximated by W H: the columns of the **dictionary** W are spectra,
the rows of the **activations** H say when and how loudly each sounds. Both start anywhere positive and are multiplied,
in turns, by factors under which the divergence of X from W H never rises.

Sources: D. Lee, H. Seung, "Algorithms for non-negative matrix factorization", NIPS 2000; C. Févotte, J. Idier,
"Algorithms for nonnegative matrix factorization with the beta-divergence", Neural Computation 23(9), 2011 (section 4:
the multiplicative updates by majorisation-minimisation, with the exponent 1/2 for Itakura-Saito).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.nn.masks import choice

DIVERGENCES = ("euclidean", "kullback-leibler", "itakura-saito")

# What a model of the matrix is at least, so that it can be divided by (scikit-learn has the same).
SMALLEST_MODEL = torch.finfo(torch.float32).eps
# Factors below this are zero, where a negative power of them would otherwise grow without end (as in scikit-learn).
SMALLEST_FACTOR = torch.finfo(torch.float64).eps
_TILE = 1 << 19
"""Values of the matrix that are worked on at once on a CPU: they stay in its second cache."""


def finite(signal: Tensor, what: str) -> Tensor:
    """Give the signal back if all of it is finite; else raise ``AuriscopeError``."""
    # NaN and infinity are among the extremes, which are found in a fifth of the time that asking every value takes.
    if signal.numel() and not torch.stack(signal.aminmax()).isfinite().all():
        raise AuriscopeError(f"{what} holds NaN or infinity")
    return signal


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
    model = model.clamp(min=SMALLEST_MODEL)
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
    model = _product(w, h, first).clamp_(min=SMALLEST_MODEL)
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
        torch.threshold_(w, SMALLEST_FACTOR, 0)


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
        h *= torch.div(facts[0], torch.threshold_(denominator, 0, SMALLEST_MODEL), out=numerator)
        return
    for tile in _tiles(matrix):
        part = h[..., tile]
        ratio, inverse = _weights(matrix[..., tile], w, part, divergence, room)
        gain = _product(w.mT, ratio, numerator[..., tile])
        if inverse is None:
            part *= gain.div_(facts[0])
        else:
            part *= _quotient(gain, _product(w.mT, inverse, denominator[..., tile])).sqrt_()
    torch.threshold_(h, SMALLEST_FACTOR, 0)


def _quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide non-negative numbers in place; zero as a denominator counts as the smallest model, and becomes it."""
    return numerator.div_(torch.threshold_(denominator, 0, SMALLEST_MODEL))
