"""What a CLAP reads with: words by vectors that know their meaning, and a small transformer over them."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from auriscope.errors import AuriscopeError
from auriscope.nn.attention import MultiHeadAttention, sinusoids
from auriscope.nn.masks import length_mask
from auriscope.nn.transformer import TransformerLayer

STOP_WORDS = (
    *("a", "an", "and", "are", "at", "audio", "be", "by", "can", "for", "from", "hear", "in", "is", "it", "of", "on"),
    *("or", "recording", "sound", "sounds", "that", "the", "there", "this", "to", "was", "with"),
)
"""Words that are not read, unless a text has no others."""
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_FOREIGN = re.compile(r"[^\W\d_a-z]+")
_PADDING = 0
_SHORTEST = 3
"""Characters of the words that others are made of."""


@dataclass(frozen=True)
class TextConfig:
    """What the small text encoder knows, and how large it is.

    ``words`` have a vector of ``vector_dim`` each, which is given and does not learn. A word that is none of them is
    read as the two that it is made of (``glassbeads``), without digits at its end, or else as its pieces of three
    characters, which share ``num_buckets`` learnt vectors. ``stop_words`` are not read at all, unless a text has no
    others, and no more than ``max_tokens`` of a text are.
    """

    words: tuple[str, ...] = ()
    vector_dim: int = 100
    num_buckets: int = 512
    stop_words: tuple[str, ...] = STOP_WORDS
    max_tokens: int = 64
    dim: int = 128
    num_layers: int = 1
    num_heads: int = 4
    hidden_size: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(self.vector_dim, self.num_buckets, self.max_tokens, self.dim, self.num_heads, self.hidden_size) < 1:
            raise ValueError("vector_dim, num_buckets, max_tokens, dim, num_heads and hidden_size must be at least 1")
        if self.dim % self.num_heads or self.num_layers < 0 or not 0.0 <= self.dropout < 1.0:
            raise ValueError("dim must be a multiple of num_heads, num_layers and dropout at least 0, dropout below 1")
        if len(set(self.words)) < len(self.words):
            raise ValueError("words must differ from each other")


def words_of(text: str, stop_words: Sequence[str] = STOP_WORDS) -> list[str]:
    """The words of a text, lower case and without accents, without stop words unless there are no others.

    >>> words_of("This is a sound of a Dog, barking!")
    ['dog', 'barking']
    >>> words_of("a sound")
    ['a', 'sound']
    >>> words_of("Bébé")
    ['bebe']
    """
    found = _WORD.findall(_folded(text))
    return [word for word in found if word not in stop_words] or found


def _folded(text: str) -> str:
    """Lower case, and letters without what stands above or below them."""
    parts = unicodedata.normalize("NFKD", text.lower())
    return "".join(part for part in parts if not unicodedata.combining(part))


def require_words(texts: Sequence[str]) -> None:
    """Raise ``AuriscopeError`` for a text without a letter or a digit, naming it."""
    empty = next((text for text in texts if not any(character.isalnum() for character in text)), None)
    if empty is not None:
        raise AuriscopeError(f"the text {empty!r} has no word; say in letters what is to be heard")


def padded_tokens(rows: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Rows of tokens as (batch, tokens), filled up with ``padding``, and their lengths (batch,)."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    if not rows:
        return torch.full((0, 1), padding), lengths
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=padding), lengths


class TextEncoder(nn.Module):
    """Words to one vector (batch, dim): each by its vector or its pieces, a transformer, and a mean.

    Tokens are 0 for padding, 1 and above for the words of the configuration, and above these for pieces.
    """

    vectors: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config, self.dim = config, config.dim
        # Row 0 is the padding's; words that nobody gives their vectors at least differ.
        self.register_buffer("vectors", torch.randn(len(config.words) + 1, config.vector_dim) * config.vector_dim**-0.5)
        self.from_vector = nn.Linear(config.vector_dim, config.dim)
        self.pieces = nn.Embedding(config.num_buckets, config.dim)
        nn.init.normal_(self.pieces.weight, std=0.1)
        self.layers = nn.ModuleList(
            TransformerLayer(config.dim, config.num_heads, config.hidden_size, config.dropout, activation="gelu")
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.dim)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.config.words, start=1)}

    @cached_property
    def _stop_words(self) -> frozenset[str]:
        return frozenset(self.config.stop_words)

    @torch.no_grad()
    def set_vectors(self, vectors: Tensor) -> None:
        """Give the words of the configuration their vectors (words, vector_dim)."""
        self.vectors[1:] = vectors

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens) and their lengths (batch,) of texts.

        ``AuriscopeError`` for one without a word, or with one in letters that are not Latin.
        """
        require_words(texts)
        rows = []
        for text in texts:
            foreign = _FOREIGN.search(_folded(text))
            if foreign is not None:
                raise AuriscopeError(f"the text {text!r} has the word {foreign[0]!r}; this model reads English only")
            words = words_of(text, self._stop_words)  # type: ignore[arg-type]  # it asks only whether a word is in it
            rows.append([token for word in words for token in self.tokens_of(word)][: self.config.max_tokens])
        return padded_tokens(rows, _PADDING)

    def tokens_of(self, word: str) -> list[int]:
        """The numbers of a word: one if it is known, two if it is made of known ones, else those of its pieces.

        Pieces are all three characters that follow each other, the ends of the word marked.
        """
        plain, numbers = word.rstrip("0123456789") or word, self._numbers
        if plain in numbers:
            return [numbers[plain]]
        for place in range(len(plain) - _SHORTEST, _SHORTEST - 1, -1):
            if plain[:place] in numbers and plain[place:] in numbers:
                return [numbers[plain[:place]], numbers[plain[place:]]]
        marked, first = f"<{word}>", 1 + len(self.config.words)
        return [
            first + zlib.crc32(marked[place : place + 3].encode()) % self.config.num_buckets
            for place in range(len(marked) - 2)
        ]

    def forward(self, tokens: Tensor, token_lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of tokens (batch, tokens); None: all but the padding's zeros are valid."""
        valid = tokens != _PADDING if token_lengths is None else length_mask(token_lengths, tokens.shape[1])
        first = 1 + len(self.config.words)
        by_vector = self.from_vector(self.vectors[tokens.clamp(max=first - 1)])
        x = torch.where((tokens >= first)[..., None], self.pieces((tokens - first).clamp_min(0)), by_vector)
        x = x + 0.1 * sinusoids(0, x.shape[1], x.shape[2], x.device)

        def look(attention: MultiHeadAttention, y: Tensor) -> Tensor:
            return attention(y, mask=valid[:, None, None, :])[0]  # type: ignore[no-any-return]

        for layer in self.layers:
            x, _ = layer(x, look)
        summed = torch.where(valid[..., None], self.norm(x), 0.0).sum(1)
        return summed / valid.sum(1).clamp_min(1)[:, None]
