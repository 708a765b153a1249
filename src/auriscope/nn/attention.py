"""Attention: every head's softmax(QKᵀ / √d) V, positions, and what a beam's prefixes have already read.

A. Vaswani et al., "Attention Is All You Need" (arXiv 1706.03762), sections 3.2 and 3.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """The map softmax(QKᵀ / √d), (..., queries, keys), of queries and keys (..., queries or keys, d).

    ``mask`` is True where a query may look; it broadcasts over the map. Equation 1 of the paper.
    """
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1)


class MultiHeadAttention(nn.Module):
    """Queries look at a memory with several heads, each in channels of its own; section 3.2.2 of the paper.

    The weights are those of ``torch.nn.MultiheadAttention``: ``project`` holds its ``in_proj_weight`` and
    ``in_proj_bias``, for queries, keys and values one below the other, ``out`` its ``out_proj``.

    Args:
        dim: channels, a multiple of ``num_heads``.
        num_heads: heads, of ``dim / num_heads`` channels each.
        dropout: probability with which a weight of the map is dropped in training.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.dim, self.num_heads, self.dropout = dim, num_heads, dropout
        self.project = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def query(self, x: Tensor) -> Tensor:
        """Project (batch, queries, dim) to the heads' queries, (batch, heads, queries, dim / heads)."""
        return self._heads(F.linear(x, self.project.weight[: self.dim], self.project.bias[: self.dim]))

    def memory(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project (batch, positions, dim) to the heads' keys and values, (batch, heads, positions, dim / heads)."""
        both = F.linear(x, self.project.weight[self.dim :], self.project.bias[self.dim :])
        return self._heads(both[..., : self.dim]), self._heads(both[..., self.dim :])

    def itself(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The heads' queries, keys and values of the same (batch, positions, dim), by one product."""
        query, key, value = self.project(x).chunk(3, dim=-1)
        return self._heads(query), self._heads(key), self._heads(value)

    def attend(
        self,
        query: Tensor,
        memory: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Look with the heads' queries at keys and values that :meth:`memory` made.

        ``mask`` is True where a query may look and broadcasts over (batch, heads, queries, positions); ``causal`` lets
        query i look at positions up to i. Returns (batch, queries, dim) and, if ``need_weights`` asks for it, the mean
        of the heads' maps, (batch, queries, positions); otherwise no map is ever kept.
        """
        key, value = memory
        dropout = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            if causal:
                before = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
                mask = before if mask is None else mask & before
            heads_weights = attention_weights(query, key, mask)
            mixed = F.dropout(heads_weights, dropout) @ value
            weights = heads_weights.mean(1)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout, is_causal=causal)
        output: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return output, weights

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Look from x (batch, queries, dim) at a memory (batch, positions, dim), by default at x itself.

        The rest is that of :meth:`attend`.
        """
        if memory is None:
            query, key, value = self.itself(x)
        else:
            query, (key, value) = self.query(x), self.memory(memory)
        return self.attend(query, (key, value), mask, causal=causal, need_weights=need_weights)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


def sinusoids(first: int, number: int, dim: int, device: torch.device | str = "cpu") -> Tensor:
    """Encode positions ``first``, ``first + 1``, ... as (number, dim) sines and cosines in turn, float32.

    Position p has sin(p / 10000^(2i / dim)) in channel 2i and the cosine in channel 2i + 1; section 3.5 of the paper.
    """
    positions = torch.arange(first, first + number, dtype=torch.float32, device=device)
    rates = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32, device=device) * (-math.log(10_000.0) / dim))
    angles = positions[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :dim]


@dataclass
class _Store:
    """Keys and values of all layers, (layers, 2, batch, heads, room, width), of which ``used`` positions are taken.

    Several caches share a store as long as each only adds behind what the others use.
    """

    tensor: Tensor
    used: int


@dataclass(frozen=True)
class PrefixCache:
    """Keys and values of what the prefixes of a beam have read: a KV cache in which nothing is copied per prefix.

    Prefixes that begin alike share what they have in common: every token that was ever read has one slot, and
    ``slots`` (batch, beam, tokens) tells each prefix its own. Reordering a beam reorders these numbers only. Queries
    see all slots of their utterance under a mask that leaves each prefix its own; slots that no prefix needs any more
    are swept out when they are the majority.
    """

    slots: Tensor
    _store: _Store
    num_slots: int

    @classmethod
    def empty(
        cls, num_layers: int, batch: int, beam_size: int, num_heads: int, width: int, like: Tensor, room: int = 0
    ) -> PrefixCache:
        """A cache of prefixes without tokens, whose keys will have the type and the device of ``like``."""
        room = room or 16 * beam_size
        store = like.new_empty(num_layers, 2, batch, num_heads, room, width)
        slots = torch.zeros(batch, beam_size, 0, dtype=torch.int64, device=like.device)
        return cls(slots, _Store(store, 0), 0)

    @property
    def num_tokens(self) -> int:
        """How many tokens each prefix has."""
        return self.slots.shape[2]

    def extended(self) -> PrefixCache:
        """Make room for a token more of every prefix; its keys and values are for :meth:`append` to fill in."""
        cache = self._swept()
        beam, store, end = cache.slots.shape[1], cache._store, cache.num_slots + cache.slots.shape[1]
        if store.used != cache.num_slots or end > store.tensor.shape[4]:
            # Someone else has gone on from here already, or the room is used up.
            shape = list(store.tensor.shape)
            shape[4] = max(2 * cache.num_slots, end + 15 * beam)
            larger = store.tensor.new_empty(shape)
            larger[..., : cache.num_slots, :] = store.tensor[..., : cache.num_slots, :]
            store = _Store(larger, cache.num_slots)
        store.used = end
        new = torch.arange(cache.num_slots, end, device=self.slots.device).expand(len(self.slots), beam)
        return PrefixCache(torch.cat((cache.slots, new[..., None]), 2), store, end)

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write the newest tokens' keys and values (batch, heads, beam, width), and give those of all slots."""
        own = self._store.tensor[layer]
        first = self.num_slots - key.shape[2]
        own[0, :, :, first : self.num_slots] = key
        own[1, :, :, first : self.num_slots] = value
        return own[0, :, :, : self.num_slots], own[1, :, :, : self.num_slots]

    def mask(self) -> Tensor:
        """Which slots are a prefix's own, (batch, 1, beam, slots)."""
        batch, beam, _ = self.slots.shape
        nothing = torch.zeros(batch, beam, self.num_slots, dtype=torch.bool, device=self.slots.device)
        return nothing.scatter_(2, self.slots, value=True)[:, None]

    def select(self, parents: Tensor) -> PrefixCache:
        """Reorder the prefixes: new prefix k continues what ``parents`` (batch, beam) names."""
        return replace(self, slots=self.slots.gather(1, parents[..., None].expand(-1, -1, self.num_tokens)))

    def keep(self, utterances: Tensor) -> PrefixCache:
        """Keep the utterances of these numbers alone, (n,) int64."""
        kept = self._store.tensor[:, :, utterances]
        return PrefixCache(self.slots[utterances], _Store(kept, self.num_slots), self.num_slots)

    def _swept(self) -> PrefixCache:
        """The cache without the slots that no prefix needs, if those may be the majority."""
        batch, beam, tokens = self.slots.shape
        if self.num_slots < 2 * (tokens + 8 * beam):
            return self
        needed = self.mask()[:, 0].any(1)
        number = int(needed.sum(1).max())
        if 2 * number > self.num_slots:
            return self
        order = (~needed).int().argsort(dim=1, stable=True)[:, :number]
        tensor = self._store.tensor
        index = order[None, None, :, None, :, None].expand(*tensor.shape[:2], -1, tensor.shape[3], -1, tensor.shape[5])
        places = torch.zeros(batch, self.num_slots, dtype=torch.int64, device=order.device)
        places.scatter_(1, order, torch.arange(number, device=order.device).expand(batch, -1))
        slots = places.gather(1, self.slots.flatten(1)).reshape(batch, beam, tokens)
        return PrefixCache(slots, _Store(tensor.gather(4, index), number), number)
