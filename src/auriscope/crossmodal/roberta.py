"""Reading with RoBERTa: a transformer over byte-level pieces, and what it makes of the token before them.

Y. Liu et al., "RoBERTa: A Robustly Optimized BERT Pretraining Approach" (arXiv 1907.11692); as the text encoder of a
CLAP, Y. Wu et al. (arXiv 2211.06687), section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor, nn

from auriscope.crossmodal.text import padded_tokens, require_words
from auriscope.nn.attention import MultiHeadAttention
from auriscope.nn.masks import length_mask
from auriscope.nn.transformer import TransformerLayer
from auriscope.text.bytelevel import BYTES

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BEGIN, PADDING, END = "<s>", "<pad>", "</s>"


@dataclass(frozen=True)
class RobertaConfig:
    """What a RoBERTa knows, and how large it is; the defaults are BASE of the paper, but for the tokens.

    ``tokens`` are the pieces as :data:`~auriscope.text.bytelevel.BYTES` spells them, by default the bytes alone,
    ``merges`` the pairs that are joined. No more than ``max_tokens`` of a text are read, both ends included. The places
    of tokens count from the number of the padding on, of ``num_positions`` there are.
    """

    tokens: tuple[str, ...] = (BEGIN, PADDING, END, *BYTES)
    merges: tuple[str, ...] = ()
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_size: int = 3072
    num_positions: int = 514
    max_tokens: int = 77
    dropout: float = 0.1
    eps: float = 1e-12

    def __post_init__(self) -> None:
        missing = next((token for token in (BEGIN, PADDING, END) if token not in self.tokens), None)
        if missing is not None:
            raise ValueError(f"tokens must hold {missing}")
        if self.dim % self.num_heads or not 3 <= self.max_tokens < self.num_positions - self.tokens.index(PADDING):
            raise ValueError("dim must be a multiple of num_heads, and num_positions enough for 3 to max_tokens tokens")


class RobertaEncoder(nn.Module):
    """Texts by their pieces to one vector (batch, dim), of the token before them."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.config, self.dim = config, config.dim
        self.padding = config.tokens.index(PADDING)
        self.words = nn.Embedding(len(config.tokens), config.dim)
        self.positions = nn.Embedding(config.num_positions, config.dim)
        for table in (self.words, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.norm = nn.LayerNorm(config.dim, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(
                config.dim,
                config.num_heads,
                config.hidden_size,
                config.dropout,
                activation="gelu",
                norm_first=False,
                eps=config.eps,
            )
            for _ in range(config.num_layers)
        )
        self.pool = nn.Linear(config.dim, config.dim)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel

        numbers = {token: number for number, token in enumerate(self.config.tokens)}
        pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in self.config.merges)]
        tokenizer = Tokenizer(BPE(numbers, pairs))
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        tokenizer.enable_truncation(self.config.max_tokens - 2)
        return tokenizer

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens) and their lengths (batch,) of texts; ``AuriscopeError`` for one without a word."""
        require_words(texts)
        begin, end = self.config.tokens.index(BEGIN), self.config.tokens.index(END)
        rows = [[begin, *encoding.ids, end] for encoding in self._tokenizer.encode_batch(list(texts))]
        return padded_tokens(rows, self.padding)

    def forward(self, tokens: Tensor, token_lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of tokens (batch, tokens); None: all but the padding are valid."""
        valid = tokens != self.padding if token_lengths is None else length_mask(token_lengths, tokens.shape[1])
        places = valid.cumsum(1) * valid + self.padding
        x = self.dropout(self.norm(self.words(tokens) + self.positions(places)))

        def look(attention: MultiHeadAttention, y: Tensor) -> Tensor:
            return attention(y, mask=valid[:, None, None, :])[0]  # type: ignore[no-any-return]

        for layer in self.layers:
            x, _ = layer(x, look)
        return self.pool(x[:, 0]).tanh()  # type: ignore[no-any-return]
