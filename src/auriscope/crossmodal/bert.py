"""Reading with BERT, of the library transformers (the extra ``hf``): the vector of its first token.

J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding" (arXiv 1810.04805),
section 3; as the text encoder of a CLAP, arXiv 2206.04769, section 3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from auriscope.crossmodal.text import padded_tokens, require_words
from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.nn.masks import length_mask
from auriscope.pretrained.addresses import resolve
from auriscope.pretrained.files import read_json
from auriscope.pretrained.foreign import Renames, rename
from auriscope.pretrained.transformers import read_weights

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_RENAMES: Renames = (
    (r"^bert\.", ""),
    # As the first files call them.
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
)


@dataclass(frozen=True)
class BertConfig:
    """What a BERT knows, and how large it is; the defaults are BASE of the paper, without its words.

    ``tokens`` are the words and pieces in their order, those within a word with ``##`` before them; ``cased`` texts
    keep their capitals and accents. No more than ``max_tokens`` of a text are read, of ``num_positions`` there are.
    """

    tokens: tuple[str, ...] = ()
    cased: bool = False
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_size: int = 3072
    num_positions: int = 512
    num_types: int = 2
    max_tokens: int = 100
    dropout: float = 0.1
    eps: float = 1e-12

    def __post_init__(self) -> None:
        missing = [token for token in _SPECIAL if token not in self.tokens]
        if self.tokens and missing:
            raise ValueError(f"tokens must hold {missing[0]}")
        if self.dim % self.num_heads or not 3 <= self.max_tokens <= self.num_positions:
            raise ValueError("dim must be a multiple of num_heads, max_tokens at least 3 and at most num_positions")


class BertEncoder(nn.Module):
    """Texts by their pieces to one vector (batch, dim): that of the token ``[CLS]``, which stands before them."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        if not config.tokens:
            raise ValueError("a BERT needs tokens: give task_options.text_from the folder or address of one")
        self.config, self.dim = config, config.dim
        try:
            import transformers
        except ImportError as error:
            raise AuriscopeError(
                "BERT needs the library transformers; install the extra with: pip install 'auriscope[hf]'"
            ) from error
        self.network: Any = transformers.BertModel(
            transformers.BertConfig(
                vocab_size=len(config.tokens),
                hidden_size=config.dim,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                intermediate_size=config.hidden_size,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
                max_position_embeddings=config.num_positions,
                type_vocab_size=config.num_types,
                layer_norm_eps=config.eps,
                pad_token_id=config.tokens.index("[PAD]"),
            ),
            add_pooling_layer=False,
        )

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import BertWordPieceTokenizer

        config = self.config
        numbers = {token: number for number, token in enumerate(config.tokens)}
        tokenizer: Any = BertWordPieceTokenizer(numbers, lowercase=not config.cased)
        tokenizer.enable_truncation(config.max_tokens)
        return tokenizer

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens) and their lengths (batch,) of texts; ``AuriscopeError`` for one without a word."""
        require_words(texts)
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        return padded_tokens(rows, self.config.tokens.index("[PAD]"))

    def forward(self, tokens: Tensor, token_lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of tokens (batch, tokens); None: all but the padding are valid."""
        padding = self.config.tokens.index("[PAD]")
        valid = tokens != padding if token_lengths is None else length_mask(token_lengths, tokens.shape[1])
        states: Tensor = self.network(input_ids=tokens, attention_mask=valid.long()).last_hidden_state
        return states[:, 0]


def read_bert(address: str) -> tuple[BertConfig, dict[str, Tensor]]:
    """Read a BERT of transformers' layout from a folder or the hub: its configuration, and its weights by our names.

    ``CheckpointError`` if it is none, is not whole, or has parts that are not known here.
    """
    folder = resolve(address)
    values = read_json(folder / "config.json")
    if values.get("model_type", "bert") != "bert" or "hidden_size" not in values:
        raise CheckpointError(f"{address}: is no BERT; text_from needs the folder or address of one")
    for name, usual in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if values.get(name, usual) != usual:
            raise CheckpointError(f"{address}: {name} is {values[name]!r}, and must be {usual!r} to be loaded")
    tokens, cased = read_vocabulary(folder)
    config = BertConfig(
        tokens=tokens,
        cased=cased,
        dim=values["hidden_size"],
        num_layers=values["num_hidden_layers"],
        num_heads=values["num_attention_heads"],
        hidden_size=values["intermediate_size"],
        num_positions=values.get("max_position_embeddings", 512),
        num_types=values.get("type_vocab_size", 2),
        max_tokens=min(100, values.get("max_position_embeddings", 512)),
        eps=values.get("layer_norm_eps", 1e-12),
    )
    weights = rename(read_weights(folder), _RENAMES)
    # What it was trained with besides, and buffers that follow from the configuration.
    surplus = re.compile(r"cls\.|pooler\.|embeddings\.(?:position_ids|token_type_ids)$")
    return config, {f"network.{name}": value for name, value in weights.items() if not surplus.match(name)}


def read_vocabulary(folder: Path) -> tuple[tuple[str, ...], bool]:
    """Read the tokens in their order, and whether texts keep their capitals, of ``tokenizer.json`` or ``vocab.txt``.

    Raises ``CheckpointError`` where a folder has neither, or one that is damaged.
    """
    if (folder / "tokenizer.json").is_file():
        whole = read_json(folder / "tokenizer.json")
        vocabulary = whole.get("model", {}).get("vocab")
        if not isinstance(vocabulary, dict):
            raise CheckpointError(f"{folder}: tokenizer.json has no word pieces; copy or download it again")
        normalizer = whole.get("normalizer") or {}
        return tuple(sorted(vocabulary, key=lambda token: vocabulary[token])), not normalizer.get("lowercase", True)
    try:
        tokens = tuple((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder}: has neither tokenizer.json nor vocab.txt; copy or download one") from error
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    return tokens, not settings.get("do_lower_case", True)
