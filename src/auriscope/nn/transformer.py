"""Transformer layers: an encoder, and a decoder that reads its tokens at once or one by one for a beam of prefixes.

A. Vaswani et al., "Attention Is All You Need" (arXiv 1706.03762), section 3; normalised before each part instead of
behind it (R. Xiong et al., arXiv 2002.04745) unless ``norm_first`` is False.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.attention import MultiHeadAttention, PrefixCache, sinusoids
from auriscope.nn.masks import choice, length_mask

Activation = Literal["relu", "gelu"]
Memory = tuple[Tensor, Tensor]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}
_Look = Callable[[MultiHeadAttention, Tensor], Tensor]


class TransformerLayer(nn.Module):
    """Self-attention, attention to a memory if there is ``cross``, and two linear layers; each beside a residual path.

    Args:
        dim: channels.
        num_heads: of each attention.
        hidden_size: between the two linear layers.
        dropout: probability, behind every part and in the attentions' maps.
        cross: whether there is a memory.
        activation: between the two linear layers.
        norm_first: normalise what goes into a part; else the sum of what comes out and the residual path.
        eps: of the normalisations.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden_size: int,
        dropout: float,
        *,
        cross: bool = False,
        activation: Activation = "relu",
        norm_first: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = MultiHeadAttention(dim, num_heads, dropout)
        self.attention_norm = nn.LayerNorm(dim, eps)
        self.cross = MultiHeadAttention(dim, num_heads, dropout) if cross else None
        self.cross_norm = nn.LayerNorm(dim, eps) if cross else None
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, hidden_size),
            _ACTIVATIONS[choice(activation, _ACTIVATIONS, "activation")](),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, dim),
        )
        self.feed_forward_norm = nn.LayerNorm(dim, eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        look: _Look,
        memory: Memory | None = None,
        memory_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Go from (batch, positions, dim) to as much; ``look(attention, x)`` does the self-attention.

        ``memory`` holds the keys and values of :meth:`MultiHeadAttention.memory` of ``cross``. Returns also the map
        over it, if it is asked for.
        """
        weights = None
        x = self._beside(x, self.attention_norm, lambda y: look(self.attention, y))
        if self.cross is not None and self.cross_norm is not None:
            assert memory is not None
            normed = self.cross_norm(x) if self.norm_first else x
            seen, weights = self.cross.attend(self.cross.query(normed), memory, memory_mask, need_weights=need_weights)
            x = x + self.dropout(seen)
            if not self.norm_first:
                x = self.cross_norm(x)
        return self._beside(x, self.feed_forward_norm, self.feed_forward), weights

    def remember(self, frames: Tensor) -> Memory:
        """The keys and values of an encoder's frames (batch, frames, dim), for the layer to look at."""
        if self.cross is None:
            raise ValueError("this layer looks at no frames: make it with cross=True")
        return self.cross.memory(frames)

    def _beside(self, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.norm_first:
            x = x + self.dropout(part(norm(x)))
        else:
            x = norm(x + self.dropout(part(x)))
        return x


def _layer(layer: nn.Module) -> TransformerLayer:
    assert isinstance(layer, TransformerLayer)
    return layer


class TransformerEncoder(nn.Module):
    """Self-attention over a whole sequence: (batch, positions, dim) to as much; arguments as of the layer."""

    def __init__(
        self,
        dim: int,
        *,
        num_layers: int,
        num_heads: int,
        hidden_size: int,
        dropout: float = 0.1,
        activation: Activation = "relu",
        norm_first: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(
                dim, num_heads, hidden_size, dropout, activation=activation, norm_first=norm_first, eps=eps
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim, eps) if norm_first else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Add positions and encode; zeros behind the ends that ``lengths`` (batch,) tell."""
        x = self.dropout(x + sinusoids(0, x.shape[1], x.shape[2], x.device))
        valid = None if lengths is None or bool((lengths >= x.shape[1]).all()) else length_mask(lengths, x.shape[1])
        mask = None if valid is None else valid[:, None, None, :]

        def look(attention: MultiHeadAttention, y: Tensor) -> Tensor:
            return attention(y, mask=mask)[0]  # type: ignore[no-any-return]

        for layer in self.layers:
            x, _ = layer(x, look)
        encoded: Tensor = self.norm(x)
        return encoded if valid is None else encoded * valid[..., None]


@dataclass(frozen=True)
class TransformerState:
    """What a decoder knows of a beam: its prefixes, and the encoder's frames as each layer looks at them."""

    cache: PrefixCache
    memories: tuple[Memory, ...] = ()
    memory_mask: Tensor | None = None

    def select(self, parents: Tensor) -> TransformerState:
        """Reorder the prefixes: new prefix k continues what ``parents`` (batch, beam) names."""
        return replace(self, cache=self.cache.select(parents))

    def keep(self, utterances: Tensor) -> TransformerState:
        """Keep the utterances of these numbers alone, (n,) int64."""
        memories = tuple((key[utterances], value[utterances]) for key, value in self.memories)
        mask = None if self.memory_mask is None else self.memory_mask[utterances]
        return TransformerState(self.cache.keep(utterances), memories, mask)


class TransformerDecoder(nn.Module):
    """Tokens to logits of what follows each, with a look at an encoder's frames if there is ``cross``.

    :meth:`forward` reads all tokens at once; :meth:`start` and :meth:`step` read one of every prefix of a beam, and
    give the same. Tokens are embedded times √dim, with sinusoidal positions from 0. Arguments as of the layer.
    """

    def __init__(
        self,
        num_tokens: int,
        dim: int,
        *,
        num_layers: int,
        num_heads: int,
        hidden_size: int,
        dropout: float = 0.1,
        cross: bool = True,
        activation: Activation = "relu",
        norm_first: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.embedding = nn.Embedding(num_tokens, dim)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        self.layers = nn.ModuleList(
            TransformerLayer(
                dim,
                num_heads,
                hidden_size,
                dropout,
                cross=cross,
                activation=activation,
                norm_first=norm_first,
                eps=eps,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim, eps) if norm_first else nn.Identity()
        self.head = nn.Linear(dim, num_tokens)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, frames: Tensor | None = None, frame_lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each of the tokens (batch, tokens).

        ``frames`` (batch, frames, dim) are the encoder's, of which ``frame_lengths`` (batch,) are valid.
        """
        memories, mask = self.look_up(frames, frame_lengths)

        def look(attention: MultiHeadAttention, y: Tensor) -> Tensor:
            return attention(y, causal=True)[0]  # type: ignore[no-any-return]

        x = self._embed(tokens, 0)
        for layer, memory in zip(self.layers, memories or (None,) * len(self.layers), strict=True):
            x, _ = layer(x, look, memory, mask)
        logits: Tensor = self.head(self.norm(x))
        return logits

    def look_up(
        self, frames: Tensor | None, frame_lengths: Tensor | None = None
    ) -> tuple[tuple[Memory, ...], Tensor | None]:
        """Each layer's keys and values of the encoder's frames, and the mask of those that are valid."""
        if frames is None:
            return (), None
        memories = tuple(layer.remember(frames) for layer in map(_layer, self.layers))
        if frame_lengths is None or bool((frame_lengths >= frames.shape[1]).all()):
            return memories, None
        return memories, length_mask(frame_lengths, frames.shape[1])[:, None, None, :]

    def start(
        self,
        batch: int,
        beam_size: int,
        frames: Tensor | None = None,
        frame_lengths: Tensor | None = None,
    ) -> TransformerState:
        """The state before the first token of ``beam_size`` prefixes of each of ``batch`` utterances."""
        memories, mask = self.look_up(frames, frame_lengths)
        weight = self.embedding.weight
        like = weight if frames is None else frames
        cache = PrefixCache.empty(
            len(self.layers), batch, beam_size, self.num_heads, weight.shape[1] // self.num_heads, like
        )
        return TransformerState(cache, memories, mask)

    def step(
        self, tokens: Tensor, state: TransformerState, *, need_weights: bool = True
    ) -> tuple[Tensor, TransformerState, Tensor | None]:
        """Read a token of each prefix, (batch, beam).

        Returns logits (batch, beam, classes), the new state, and where there are frames and ``need_weights``, the
        attention over them, (batch, beam, frames), of the last layer, the mean of its heads.
        """
        cache = state.cache.extended()
        mask = cache.mask()
        x = self._embed(tokens, cache.num_tokens - 1, everywhere_alike=True)
        weights = None
        for number, layer in enumerate(self.layers):

            def look(attention: MultiHeadAttention, y: Tensor, number: int = number) -> Tensor:
                query, key, value = attention.itself(y)
                return attention.attend(query, cache.append(number, key, value), mask)[0]

            memory = state.memories[number] if state.memories else None
            last = number == len(self.layers) - 1
            x, weights = layer(x, look, memory, state.memory_mask, need_weights=need_weights and last)
        return self.head(self.norm(x)), replace(state, cache=cache), weights

    def _embed(self, tokens: Tensor, first: int, *, everywhere_alike: bool = False) -> Tensor:
        """Embed tokens (batch, n), whose positions count from ``first``, or are all ``first``."""
        dim = self.embedding.weight.shape[1]
        positions = sinusoids(first, 1 if everywhere_alike else tokens.shape[1], dim, tokens.device)
        embedded = F.embedding(tokens, self.embedding.weight) * math.sqrt(dim) + positions
        dropped: Tensor = self.dropout(embedded)
        return dropped
