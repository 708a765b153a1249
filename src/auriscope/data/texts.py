"""Text to train language models on: the lines of files and the transcripts of corpora, in batches by length."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auriscope.data.corpora import corpora_root, utterances
from auriscope.data.transcribed import letters
from auriscope.errors import CorpusError, RecipeError

LIBRI_TEXT = "libri_text/train-clean-100.tsv.gz"


@dataclass(frozen=True)
class TextConfig:
    """What batches of text are made from.

    Args:
        files: texts, a line each, plain or ``.gz``; in a ``.tsv`` a name and a tab come before each. A path that is not
            absolute is looked for below ``AURISCOPE_CORPORA``.
        corpora: whose transcripts of the train split are added, to training only.
        valid_share: share of the lines of the files that choose the weights and are never trained on.
        batch_characters: of a batch, padding and the sentences' ends included.
        max_characters: longer lines are left out.
    """

    files: tuple[str, ...] = (LIBRI_TEXT,)
    corpora: tuple[str, ...] = ()
    valid_share: float = 0.02
    batch_characters: int = 8000
    max_characters: int = 400

    def __post_init__(self) -> None:
        if not 0 < self.valid_share < 1:
            raise RecipeError(f"data.valid_share must lie between 0 and 1, not {self.valid_share}")
        if not 0 < self.max_characters < self.batch_characters:
            raise RecipeError("data needs 0 < max_characters < batch_characters")


def read_lines(path: str | Path, root: Path | None = None) -> list[tuple[str, str]]:
    """Read a file of text as (group, text) for every line that has letters, in the letters of the models.

    Lines of one group belong together, such as the sentences of a chapter: of a ``.tsv`` it is the line's name without
    what is behind its last hyphen, otherwise the line itself. ``root`` defaults to the corpora's. Raises
    ``CorpusError`` when the file is missing or is not text.
    """
    path = Path(path)
    where = path if path.is_absolute() else (root or corpora_root()) / path
    try:
        data = where.read_bytes()
        content = (gzip.decompress(data) if where.suffix == ".gz" else data).decode("utf-8")
    except FileNotFoundError as error:
        raise CorpusError(f"{where}: there is no such text") from error
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise CorpusError(f"{where}: the text cannot be read: {error}") from error
    named = ".tsv" in where.suffixes
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        name, tab, text = line.partition("\t") if named else (line, "\t", line)
        if not tab and line.strip():
            raise CorpusError(f"{where}, line {number}: there is no tab between a name and a text")
        if text := letters(text):
            found.append((name.rpartition("-")[0] or name if named else name, text))
    return found


def is_valid(group: str, share: float) -> bool:
    """Whether the lines of a group belong to the ``share`` that is never trained on: a fixed matter of its name."""
    digest = hashlib.sha256(group.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split_texts(config: TextConfig, split: str, root: Path | None = None) -> list[str]:
    """The texts of the split "train" or "valid"; ``CorpusError`` if there are none."""
    if split not in ("train", "valid"):
        raise ValueError(f"texts have the splits train and valid, not {split!r}")
    lines = [line for path in config.files for line in read_lines(path, root)]
    texts = [text for group, text in lines if is_valid(group, config.valid_share) == (split == "valid")]
    if split == "train":
        for corpus in config.corpora:
            spoken = utterances(corpus, "train", root=root, for_training=True)
            texts += [text for entry in spoken if not entry.held_out and (text := letters(entry.text or ""))]
    texts = [text for text in texts if len(text) <= config.max_characters]
    if not texts:
        raise CorpusError(f"{', '.join(config.files + config.corpora)}: no text of the split {split} fits")
    return texts


class TextBatches:
    """Endless batches of texts of about the same length, ``{"text": list[str]}``, each fully determined by its index.

    In every epoch the texts are sorted by length, about, and cut into batches, whose order is drawn.
    """

    def __init__(self, config: TextConfig, *, seed: int, split: str = "train", root: Path | None = None) -> None:
        self.config, self.seed = config, seed
        self.texts = split_texts(config, split, root)
        self._sizes = np.array([len(text) + 1 for text in self.texts])
        self._epochs: list[list[NDArray[np.int64]]] = []

    @property
    def num_characters(self) -> int:
        """Characters of an epoch, a sentence's end counting as one."""
        return int(self._sizes.sum())

    def batch(self, index: int) -> dict[str, Any]:
        """Make a batch by its index."""
        epoch = 0
        while True:
            if epoch == len(self._epochs):
                self._epochs.append(self._epoch(epoch))
            if index < len(self._epochs[epoch]):
                return {"text": [self.texts[place] for place in self._epochs[epoch][index]]}
            index -= len(self._epochs[epoch])
            epoch += 1

    def _epoch(self, number: int) -> list[NDArray[np.int64]]:
        rng: Any = np.random.default_rng([self.seed, 4, number])
        order = np.argsort(self._sizes * rng.uniform(0.9, 1.1, len(self._sizes)))
        batches = list(_cut(order, self._sizes, self.config.batch_characters))
        return [batches[place] for place in rng.permutation(len(batches))]


def fixed_batches(texts: Sequence[str], batch_characters: int) -> list[dict[str, Any]]:
    """All texts once, sorted by length, in batches of so many characters."""
    sizes = np.array([len(text) + 1 for text in texts])
    return [{"text": [texts[place] for place in cut]} for cut in _cut(np.argsort(sizes), sizes, batch_characters)]


def _cut(order: NDArray[np.int64], sizes: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """Cut texts in their order into batches of which none, padded to its longest, has more than ``most`` characters."""
    first, longest = 0, 0
    for place, text in enumerate(order):
        longest = max(longest, int(sizes[text]))
        if place > first and longest * (place + 1 - first) > most:
            yield order[first:place]
            first, longest = place, int(sizes[text])
    yield order[first:]
