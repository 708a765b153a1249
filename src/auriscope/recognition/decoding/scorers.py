"""What is scored beside the recogniser: language models over tokens, over words, and hotwords.

A language model over tokens goes along with the beam in tensors, as a decoder does. Words and hotwords are scored text
by text, when a word ends; until then a word that is begun gets an advance, positive or negative, that is taken back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.recognition.decoding.options import DecodingOptions
from auriscope.text.tokenizer import WORD_START, Tokenizer


class TokenLanguageModel(Protocol):
    """A language model over the recogniser's tokens: what the search asks of it; rows are (batch, beam)."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokens, which must be the recogniser's."""

    def start(self, batch: int, beam_size: int, device: Any) -> Any:
        """The state before the first token."""

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read a token of each prefix (batch, beam); log-probabilities (batch, beam, classes), and the new state."""

    def select(self, state: Any, parents: Tensor) -> Any:
        """Reorder the prefixes: new prefix k is what ``parents`` (batch, beam) names."""

    def keep(self, state: Any, utterances: Tensor) -> Any:
        """Keep the utterances of these numbers alone."""


@runtime_checkable
class WordLanguageModel(Protocol):
    """A language model over words; all in natural logarithms."""

    @property
    def vocabulary(self) -> Iterable[str]:
        """The words that it knows."""

    def start_state(self) -> Any:
        """What stands before the first word; states are never changed."""

    def score_word(self, state: Any, word: str) -> tuple[float, Any]:
        """Log-probability of a word after ``state``, known or not, and the state after it."""

    def score_end(self, state: Any) -> float:
        """Log-probability that the sentence ends after ``state``."""


class _Node:
    """A beginning of hotwords; ``advance`` is how much of the shortest of them it is, from 0 to 1."""

    __slots__ = ("advance", "children", "complete")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.advance = 0.0
        self.complete = 0


TextState = tuple[str, float, Any, tuple[_Node, ...]]
"""Where the scoring of a text is: the word begun; what has been given in advance for what is not complete; the language
model's state before that word; and the hotwords that may be under way."""


class TextScorer:
    """Scores words by a language model over words, and hotwords, as the tokens of a text come.

    Everything is weighted as ``options`` say. ``language_model`` None: hotwords alone.
    """

    def __init__(
        self, tokenizer: Tokenizer, options: DecodingOptions, language_model: WordLanguageModel | None = None
    ) -> None:
        if tokenizer.has_pieces:
            self._pieces = [
                (token.startswith(WORD_START), token.removeprefix(WORD_START).replace(WORD_START, " "))
                for token in tokenizer.tokens
            ]
        elif tokenizer.kind == "words":
            self._pieces = [(True, token) for token in tokenizer.tokens]
        else:
            self._pieces = [(token == " ", token.strip()) for token in tokenizer.tokens]
        self._special = tokenizer.special_ids
        self._options = options
        self._model = language_model if options.word_lm_weight > 0.0 or options.word_bonus else None
        self._hotword_weight = options.hotword_weight if options.hotwords else 0.0
        self._root = _Node()
        for hotword in dict.fromkeys(" ".join(each.split()) for each in options.hotwords):
            self._add_hotword(hotword)
        self._sorted_words = sorted(self._model.vocabulary) if self._model is not None else []
        self._known = set(self._sorted_words)
        self._advances: dict[str, float] = {"": 0.0}
        # Less than what makes the search by frames drop a hypothesis at once.
        self._unknown_ahead = max(options.word_lm_weight * options.unknown_word_score, -options.beam_margin / 2.0)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to score."""
        return self._model is None and self._hotword_weight == 0.0

    @cached_property
    def max_gains(self) -> list[float]:
        """The most that each token can add to the score: words are worth something only when they end."""
        hotwords = 2.0 * max(0.0, self._hotword_weight) * len(self._options.hotwords)
        bonus = max(0.0, self._options.word_bonus) if self._model is not None else 0.0
        return [hotwords + (bonus if begins else 0.0) for begins, _ in self._pieces]

    @property
    def max_gain(self) -> float:
        """The most that any token can add to the score."""
        return max(self.max_gains)

    def start(self) -> TextState:
        """The state of an empty text."""
        return "", 0.0, None if self._model is None else self._model.start_state(), (self._root,)

    def extend(self, state: TextState, token: int) -> tuple[float, TextState]:
        """What a token adds to the score of a text, and the state after it."""
        if token in self._special:
            return 0.0, state
        begins, letters = self._pieces[token]
        partial, advance, context, hotwords = state
        gain = 0.0
        if begins and partial:
            gain, context = self._word(context, partial)
            if self._hotword_weight:
                found, hotwords = self._end_of_word(hotwords)
                gain += self._hotword_weight * found
            partial = ""
        partial += letters
        ahead = 0.0
        if self._hotword_weight:
            hotwords = _follow(hotwords, letters)
            ahead = self._hotword_weight * max([node.advance for node in hotwords], default=0.0)
        # A hotword is begun on purpose, whether the language model knows it or not.
        if ahead == 0.0:
            known = self._advances.get(partial)
            ahead = self._unknown_advance(partial) if known is None else known
        return gain + ahead - advance, (partial, ahead, context, hotwords)

    def end(self, state: TextState) -> float:
        """What the end of the text adds to its score."""
        partial, advance, context, hotwords = state
        gain = 0.0
        if partial:
            gain, context = self._word(context, partial)
        if self._model is not None:
            gain += self._options.word_lm_weight * self._model.score_end(context)
        if self._hotword_weight and partial:
            gain += self._hotword_weight * self._end_of_word(hotwords)[0]
        return gain - advance

    def parts(self, text: str) -> dict[str, float]:
        """The parts of a whole text's score before they are weighted: see ``Hypothesis.scores``."""
        words = text.split()
        found: dict[str, float] = {}
        if self._model is not None:
            context, total = self._model.start_state(), 0.0
            for word in words:
                log_prob, context = self._model.score_word(context, word)
                total += log_prob + (0.0 if word in self._known else self._options.unknown_word_score)
            found["word_language_model"] = total + self._model.score_end(context)
            found["words"] = float(len(words))
        if self._hotword_weight:
            found["hotwords"] = float(
                sum(
                    words[first : first + len(hotword)] == hotword
                    for hotword in (list(each) for each in {tuple(each.split()) for each in self._options.hotwords})
                    for first in range(len(words))
                )
            )
        return found

    def _word(self, context: Any, word: str) -> tuple[float, Any]:
        if self._model is None:
            return 0.0, context
        log_prob, context = self._model.score_word(context, word)
        if word not in self._known:
            log_prob += self._options.unknown_word_score
        return self._options.word_lm_weight * log_prob + self._options.word_bonus, context

    def _unknown_advance(self, partial: str) -> float:
        """What a word is charged as long as it begins like none that the language model knows."""
        place = bisect_left(self._sorted_words, partial)
        known = place < len(self._sorted_words) and self._sorted_words[place].startswith(partial)
        advance = 0.0 if known or self._model is None else self._unknown_ahead
        self._advances[partial] = advance
        return advance

    def _add_hotword(self, hotword: str) -> None:
        node = self._root
        for position, letter in enumerate(hotword):
            node = node.children.setdefault(letter, _Node())
            node.advance = max(node.advance, (position + 1) / len(hotword))
        node.complete += 1

    def _end_of_word(self, hotwords: tuple[_Node, ...]) -> tuple[int, tuple[_Node, ...]]:
        """How many hotwords end with the word that ends here, and those under way before the next word."""
        found = sum(node.complete for node in hotwords)
        return found, (*_follow(hotwords, " "), self._root)


def _follow(nodes: Sequence[_Node], letters: str) -> tuple[_Node, ...]:
    for letter in letters:
        nodes = [node.children[letter] for node in nodes if letter in node.children]
    return tuple(nodes)


def checked_language_model(model: TokenLanguageModel, tokenizer: Tokenizer) -> TokenLanguageModel:
    """Give the language model back if its tokens are the recogniser's; else ``AuriscopeError`` says so."""
    own = model.tokenizer
    if own.tokens != tokenizer.tokens or (own.bos_id, own.eos_id) != (tokenizer.bos_id, tokenizer.eos_id):
        raise AuriscopeError(
            f"the language model's {len(own)} tokens are not the recogniser's {len(tokenizer)}: "
            "train it with the recogniser's tokenizer, or give a language model over words"
        )
    return model
