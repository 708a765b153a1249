"""N-gram language models: how likely a unit is after the few before it, by counts.

The n-grams of each length are a table, sorted by their context and then by their last unit; a context is a place in the
table of one unit less. So an n-gram is found by bisection, and all that may follow a context lies in a row. Written to
ARPA files and read from them: D. Paul and J. Baker, "The Design for the Wall Street Journal-based CSR Corpus", 1992.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.recognition.counting import Table, kneser_ney
from auriscope.recognition.language_model import LanguageModel, LanguageModelConfig
from auriscope.text.tokenizer import BLANK, EOS, UNKNOWN

NEVER = -99.0 * math.log(10.0)
"""The log-probability of what cannot follow, such as the blank; ARPA files have -99 there."""


@dataclass(frozen=True)
class NGramConfig(LanguageModelConfig):
    """The configuration of an n-gram model: its units, and how many n-grams of each length it holds, from unigrams on.

    ``prune`` gives for each length the highest count that ``fit`` drops.
    """

    order: int = 5
    prune: tuple[int, ...] = ()
    num_ngrams: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.order < 1:
            raise ValueError(f"order {self.order} must be at least 1")
        if self.num_ngrams and self.num_ngrams[0] != len(self.tokens):
            raise ValueError(f"there are {len(self.tokens)} tokens and {self.num_ngrams[0]} unigrams")
        if len(self.num_ngrams) > self.order:
            raise ValueError(f"n-grams up to {len(self.num_ngrams)} units do not fit an order of {self.order}")
        if any(low > high for low, high in zip(self.prune[:-1], self.prune[1:], strict=True)):
            raise ValueError(f"prune {self.prune} must not fall with the length")


class NGram(LanguageModel, name="recognition/ngram"):
    """An n-gram model over a recogniser's tokens, with interpolated modified Kneser-Ney smoothing.

    It goes along with a beam search in tensors, as a neural language model does. In its tables sentences begin and end
    with ``tokenizer.eos_id``; what is read may begin with ``tokenizer.bos_id`` as well.
    """

    Config = NGramConfig
    Tiny: ClassVar[dict[str, Any]] = {"order": 3}
    fitted = True

    def __init__(self, config: NGramConfig) -> None:
        super().__init__(config)
        self._allocate(config.num_ngrams)

    def _allocate(self, sizes: Sequence[int]) -> None:
        # Before it is fitted, a model has its unigrams alone, all alike.
        sizes = sizes or (len(self.config.tokens),)
        # The smaller whole numbers where they hold every token, or the place of every n-gram: the tables ship.
        units = torch.int16 if len(self.config.tokens) <= torch.iinfo(torch.int16).max else torch.int32
        for length, size in enumerate(sizes, start=1):
            self.register_buffer(f"log_probs_{length}", torch.zeros(size))
            if length < len(sizes):
                self.register_buffer(f"backoffs_{length}", torch.zeros(size))
            if length > 1:
                starts = torch.uint16 if size <= torch.iinfo(torch.uint16).max else torch.int32
                self.register_buffer(f"starts_{length}", torch.zeros(sizes[length - 2] + 1, dtype=starts))
                self.register_buffer(f"units_{length}", torch.zeros(size, dtype=units))
        self._keys: list[Tensor] = []

    @property
    def num_lengths(self) -> int:
        """The length of the longest n-grams; 0 before ``fit``."""
        return len(self.config.num_ngrams)

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.get_buffer("log_probs_1").device

    def fit(self, texts: Iterable[str]) -> Self:
        """Learn from texts, a sentence each, that the tokenizer can write; returns the model.

        Raises ``AuriscopeError`` when there are none.
        """
        never = self.tokenizer.special_ids - {self._end, self.tokenizer.unknown_id}
        sentences = [self.tokenizer.encode(text) for text in texts]
        order, prune = self.config.order, self.config.prune
        self.set_tables(kneser_ney(sentences, len(self.tokenizer), order, self._end, prune=prune, never=never))
        return self

    @property
    def _end(self) -> int:
        end = self.tokenizer.eos_id
        assert end is not None
        return end

    def set_tables(self, tables: Sequence[Table]) -> None:
        """Take n-grams of each length, sorted by context and unit, in the place of what the model held."""
        self.config = dataclasses.replace(self.config, num_ngrams=tuple(len(table.units) for table in tables))
        for name in list(dict(self.named_buffers())):
            delattr(self, name)
        self._allocate(self.config.num_ngrams)
        for length, table in enumerate(tables, start=1):
            self.get_buffer(f"log_probs_{length}").copy_(torch.from_numpy(table.log_probs))
            if length < len(tables):
                self.get_buffer(f"backoffs_{length}").copy_(torch.from_numpy(table.backoffs))
            if length > 1:
                rows = np.searchsorted(table.contexts, np.arange(self.config.num_ngrams[length - 2] + 1))
                self.get_buffer(f"starts_{length}").copy_(torch.from_numpy(rows))
                self.get_buffer(f"units_{length}").copy_(torch.from_numpy(table.units))

    def tables(self) -> list[Table]:
        """The n-grams of each length, as ``set_tables`` takes them."""
        found = []
        for length, size in enumerate(self.config.num_ngrams, start=1):
            log_probs = self.get_buffer(f"log_probs_{length}").double().cpu().numpy()
            last = length == self.num_lengths
            backoffs = np.zeros(size) if last else self.get_buffer(f"backoffs_{length}").double().cpu().numpy()
            if length == 1:
                contexts, units = np.zeros(size, np.int64), np.arange(size)
            else:
                rows = self.get_buffer(f"starts_{length}").long().cpu().numpy()
                contexts = np.repeat(np.arange(len(rows) - 1), np.diff(rows))
                units = self.get_buffer(f"units_{length}").long().cpu().numpy()
            found.append(Table(contexts, units, log_probs, backoffs))
        return found

    def _require_fit(self) -> None:
        if not self.num_lengths:
            raise AuriscopeError(f"{self.name} has not been fitted: call fit, or load a fitted model")

    # Token by token, for a beam of prefixes.

    def forward(self, tokens: Tensor, token_lengths: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Log-probabilities (batch, tokens, classes) of what follows each of the tokens (batch, tokens)."""
        state = self.start(len(tokens), 1)
        found = []
        for column in tokens.T:
            log_probs, state = self.step(column[:, None], state)
            found.append(log_probs[:, 0])
        return torch.stack(found, 1)

    def start(self, batch: int, beam_size: int, device: torch.device | str | None = None) -> Tensor:  # noqa: ARG002
        """The contexts of no token yet: (batch, beam, order - 1) places in the tables, -1 for none."""
        self._require_fit()
        return torch.full((batch, beam_size, max(1, self.num_lengths - 1)), -1, device=self.device)

    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read a token of each prefix, (batch, beam): log-probabilities (batch, beam, classes), and the new contexts.

        The beginning of a sentence forgets what was before it.
        """
        read = tokens.flatten()
        bos = self.tokenizer.bos_id
        assert bos is not None
        read = torch.where(read == bos, self._end, read)
        contexts = self._read(read, state.flatten(0, 1))
        classes = len(self.tokenizer)
        log_probs = self.get_buffer("log_probs_1").repeat(len(read), 1)
        for length in range(2, self.num_lengths + 1):
            places = contexts[:, length - 2]
            rows = torch.nonzero(places >= 0)[:, 0]
            if not len(rows):
                break
            places = places[rows]
            log_probs[rows] += self.get_buffer(f"backoffs_{length - 1}")[places][:, None]
            starts = self.get_buffer(f"starts_{length}")
            first = starts[places].long()
            number = starts[places + 1].long() - first
            owners = torch.repeat_interleave(rows, number)
            inside = torch.arange(len(owners), device=owners.device)
            entries = inside + torch.repeat_interleave(first - (number.cumsum(0) - number), number)
            units = self.get_buffer(f"units_{length}")[entries].long()
            log_probs[owners, units] = self.get_buffer(f"log_probs_{length}")[entries]
        return log_probs.reshape(*tokens.shape, classes), contexts.reshape(state.shape)

    def _read(self, read: Tensor, before: Tensor) -> Tensor:
        """The contexts (rows, order - 1) after a unit: that of one unit, of two, and so on."""
        if not self._keys or self._keys[0].device != read.device:
            classes = len(self.tokenizer)
            self._keys = [
                torch.from_numpy(table.contexts * classes + table.units).to(read.device) for table in self.tables()[1:]
            ]
        after = torch.full_like(before, -1)
        after[:, 0] = read
        for length in range(2, self.num_lengths):
            keys = self._keys[length - 2]
            places = before[:, length - 2]
            wanted = places * len(self.tokenizer) + read
            found = torch.searchsorted(keys, wanted).clamp(max=max(0, len(keys) - 1))
            there = (places >= 0) & (len(keys) > 0) & (read != self._end)
            if len(keys):
                there &= keys[found] == wanted
            after[:, length - 1] = torch.where(there, found, -1)
        return after

    def select(self, state: Tensor, parents: Tensor) -> Tensor:
        """Reorder the prefixes of every utterance."""
        return state.gather(1, parents[..., None].expand(-1, -1, state.shape[-1]))

    def keep(self, state: Tensor, utterances: Tensor) -> Tensor:
        """Keep the utterances of these numbers alone."""
        return state[utterances]


_REMEMBERED = 1_000_000

WordState = tuple[int, ...]
"""The places of a word's contexts in the tables: of the last word, of the last two, and so on."""


class WordNGram(NGram, name="recognition/word-ngram"):
    """An n-gram model over words, for recognisers of letters or pieces.

    It scores word by word: :meth:`start_state`, :meth:`score_word`, :meth:`score_end`; states are plain tuples.
    """

    Tiny: ClassVar[dict[str, Any]] = {"order": 3, "tokens": (BLANK, EOS, UNKNOWN), "token_kind": "words"}

    @classmethod
    def of_texts(
        cls, texts: Iterable[str], *, order: int = 3, prune: Sequence[int] = (), min_count: int = 1
    ) -> WordNGram:
        """Fit a model to texts, a sentence each; words seen less than ``min_count`` times count as unknown."""
        listed = [text.split() for text in texts]
        counts: dict[str, int] = {}
        for text in listed:
            for word in text:
                counts[word] = counts.get(word, 0) + 1
        words = sorted(word for word, count in counts.items() if count >= min_count)
        config = NGramConfig((BLANK, EOS, UNKNOWN, *words), "words", order=order, prune=tuple(prune))
        return cls(config).fit(" ".join(text) for text in listed)

    @property
    def vocabulary(self) -> list[str]:
        """The words that it knows."""
        tokenizer = self.tokenizer
        return [token for number, token in enumerate(tokenizer.tokens) if number not in tokenizer.special_ids]

    def start_state(self) -> WordState:
        """The state before the first word."""
        self._require_fit()
        return (self._end,)

    def score_word(self, state: WordState, word: str) -> tuple[float, WordState]:
        """Natural logarithm of the probability of a word after ``state``, and the state after it."""
        lists = self._lists or self._plain()
        unit = lists.numbers.get(word, lists.unknown)
        key = (state, unit)
        found = lists.scored.get(key)
        if found is None:
            if len(lists.scored) > _REMEMBERED:
                lists.scored.clear()
            found = lists.scored[key] = lists.score(state, unit)
        return found

    def score_end(self, state: WordState) -> float:
        """Natural logarithm of the probability that the sentence ends after ``state``."""
        return (self._lists or self._plain()).score(state, self._end)[0]

    def _allocate(self, sizes: Sequence[int]) -> None:
        super()._allocate(sizes)
        self._lists: _Lists | None = None

    def _plain(self) -> _Lists:
        self._lists = _Lists(self)
        return self._lists


class _Lists:
    """Plain lists of a model's tables: one number of a tensor takes longer than the whole bisection of a list."""

    def __init__(self, model: WordNGram) -> None:
        self.numbers = {word: number for number, word in enumerate(model.tokenizer.tokens)}
        unknown = model.tokenizer.unknown_id
        self.unknown = -1 if unknown is None else unknown
        self.scored: dict[tuple[WordState, int], tuple[float, WordState]] = {}
        self.num_lengths = model.num_lengths
        held = dict(model.named_buffers())
        lengths = range(1, self.num_lengths + 1)
        self.log_probs, self.backoffs, self.starts, self.units = (
            [held[f"{name}_{length}"].tolist() if f"{name}_{length}" in held else [] for length in lengths]
            for name in ("log_probs", "backoffs", "starts", "units")
        )

    def score(self, state: WordState, unit: int) -> tuple[float, WordState]:
        """Find the longest n-gram that ends with the unit, giving away what the longer contexts do."""
        if unit < 0:
            return NEVER, ()
        log_prob = self.log_probs[0][unit]
        after = [unit]
        for length, context in enumerate(state, start=1):
            if length == self.num_lengths:
                break
            starts, units = self.starts[length], self.units[length]
            last = starts[context + 1]
            place = bisect_left(units, unit, starts[context], last)
            if place < last and units[place] == unit:
                log_prob = self.log_probs[length][place]
                if len(after) == length:
                    after.append(place)
            else:
                log_prob += self.backoffs[length - 1][context]
        return log_prob, tuple(after[: max(1, self.num_lengths - 1)])
