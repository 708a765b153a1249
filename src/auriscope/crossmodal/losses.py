"""The contrastive loss of two modalities, over large batches and over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

LARGEST_SCALE = 100.0
"""No cosine is multiplied by more."""


def clamped_logits(audio_embedding: Tensor, text_embedding: Tensor, logit_scale: Tensor) -> Tensor:
    """Logits (recordings, texts) of embeddings (…, dim) of unit length: cosines times the scale, which is at most 100.

    Source: A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv
    2103.00020), section 2.5.
    """
    # Sixteen bits would round a logit to the next 0.1.
    with torch.autocast(audio_embedding.device.type, enabled=False):
        return logit_scale.clamp(max=LARGEST_SCALE) * (audio_embedding @ text_embedding.mT)


def clap_loss(
    audio_embedding: Tensor, text_embedding: Tensor, logit_scale: Tensor, same: Tensor | None = None
) -> Tensor:
    """The symmetric contrastive loss of pairs, a scalar in nats.

    Embeddings (pairs, dim) are of unit length; row i of the one belongs to row i of the other. Each recording is to
    find its text among all, and each text its recording: the mean of the two cross-entropies. Source: CLAP (arXiv
    2206.04769), equations 3 and 4.

    With ``same`` (pairs,), pairs of one number say the same, and each counts as right for the others, all alike: there
    is nothing by which a second "dog barking" could be told from the first. Where all numbers differ, nothing changes.
    """
    logits = clamped_logits(audio_embedding, text_embedding, logit_scale)
    target = torch.arange(len(logits), device=logits.device)
    if same is not None:
        alike = (same[:, None] == same).to(logits)
        target = alike / alike.sum(1, keepdim=True)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target))


def encode_in_chunks(
    encode: Callable[..., Tensor], inputs: Sequence[Tensor | None], chunk_size: int, *, module: nn.Module | None = None
) -> Tensor:
    """Embed a large batch by ``encode(*inputs)`` in parts, with the memory of one part and the gradients of the whole.

    Every input has the batch first, or is None. The parts are encoded without keeping what gradients need; when the
    gradients of the embeddings are known, each part is encoded again and passes its own on. Dropout draws the same both
    times. Batch norms of ``module`` see a part at a time, and note its statistics once.
    Source: L. Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (arXiv 2101.06983),
    section 3.2.
    """
    size = next(len(each) for each in inputs if each is not None)
    if size <= chunk_size or not torch.is_grad_enabled():
        return encode(*inputs)

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _noting_nothing(module)

    parts = []
    for first in range(0, size, chunk_size):
        part = [None if each is None else each[first : first + chunk_size] for each in inputs]
        parts.append(checkpoint(encode, *part, use_reentrant=False, context_fn=contexts))
    return torch.cat(parts)


@contextmanager
def _noting_nothing(module: nn.Module | None) -> Iterator[None]:
    """Keep the batch norms of a module from counting what they see."""
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm)] if module is not None else []
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, number) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, number


def gathered(embedding: Tensor) -> Tensor:
    """The embeddings (processes · batch, dim) of all processes, by rank; each passes back the gradients of its own.

    Every process has as many. With the loss of all of them in every process, and the gradients of the weights averaged
    over the processes, as data parallel training does, these are exactly those of one process with the whole batch.
    Without processes, what was given.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return embedding
    if torch.distributed.get_world_size() == 1:
        return embedding
    whole: Tensor = _Gather.apply(embedding)  # type: ignore[no-untyped-call]  # torch's is not typed
    return whole


class _Gather(torch.autograd.Function):
    """All processes' tensors one below the other; the gradient is the sum over the processes, cut to the own rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        ctx.size = len(own)
        parts = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        torch.distributed.all_reduce(total)
        first = torch.distributed.get_rank() * ctx.size
        return total[first : first + ctx.size]
