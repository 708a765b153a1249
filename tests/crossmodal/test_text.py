"""Reading: words, words made of words, pieces of others, and where vectors come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from auriscope.crossmodal.text import TextConfig, TextEncoder, words_of
from auriscope.crossmodal.words import read_vectors
from auriscope.errors import AuriscopeError

WORDS = ("glass", "beads", "rain", "male", "voice")
CONFIG = TextConfig(words=WORDS, vector_dim=6, num_buckets=32, dim=8, num_heads=2, hidden_size=8, dropout=0.0)


@pytest.fixture
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(CONFIG).eval()


def test_words_are_lower_case_and_without_stop_words() -> None:
    assert words_of("This is the SOUND of Rain, on a roof!") == ["rain", "roof"]
    assert words_of("don't-stop") == ["don't", "stop"]
    assert words_of("white_noise 2") == ["white", "noise", "2"]
    # A text of stop words alone is read as it is.
    assert words_of("there it is") == ["there", "it", "is"]
    assert words_of("a dog", ()) == ["a", "dog"]
    assert words_of("...") == []


def test_tokens(encoder: TextEncoder) -> None:
    assert encoder.tokens_of("rain") == [3]
    assert encoder.tokens_of("rain12") == [3]
    # Made of known words: the two of them.
    assert encoder.tokens_of("glassbeads") == [1, 2]
    assert encoder.tokens_of("malevoice") == [4, 5]
    # Anything else: all three characters of it, <ge gec eck cko ko>.
    pieces = encoder.tokens_of("gecko")
    assert len(pieces) == 5
    assert min(pieces) > len(WORDS)
    assert max(pieces) <= len(WORDS) + CONFIG.num_buckets
    assert pieces[1:3] == encoder.tokens_of("gecks")[1:3]
    tokens, lengths = encoder.tokenize(["rain", "the rain in gecko"])
    assert tokens.shape == (2, 6)
    assert lengths.tolist() == [1, 6]
    assert tokens[0].tolist() == [3, 0, 0, 0, 0, 0]


def test_long_texts_are_cut_and_empty_ones_refused(encoder: TextEncoder) -> None:
    assert encoder.tokenize(["rain " * 100])[0].shape == (1, CONFIG.max_tokens)
    with pytest.raises(AuriscopeError, match=r"the text ' \?' has no word; say in letters"):
        encoder.tokenize(["rain", " ?"])


def test_what_it_cannot_read_is_refused_not_guessed(encoder: TextEncoder) -> None:
    for text in ("дождь", "this is a sound of 雨", "rain and дождь"):
        with pytest.raises(AuriscopeError, match="this model reads English only"):
            encoder.tokenize([text])
    # Accents are read over, and so are signs.
    assert encoder.tokenize(["Ráin, ½ °"])[0][0, 0] == encoder.tokenize(["rain"])[0][0, 0]


def test_padding_changes_nothing(encoder: TextEncoder) -> None:
    tokens, lengths = encoder.tokenize(["rain", "glass beads and gecko"])
    with torch.no_grad():
        together = encoder(tokens, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = encoder(tokens[row : row + 1, :length])
            torch.testing.assert_close(together[row], alone[0], rtol=1e-6, atol=1e-6)
        # Zeros are padding where nothing says how long a text is.
        torch.testing.assert_close(encoder(tokens), together, rtol=1e-6, atol=1e-6)


def test_known_words_mean_what_their_vectors_do(encoder: TextEncoder) -> None:
    encoder.set_vectors(torch.eye(6)[[0, 0, 1, 2, 3]])
    with torch.no_grad():
        glass, beads, rain = (encoder(torch.tensor([[number]]))[0] for number in (1, 2, 3))
    assert torch.equal(glass, beads)
    assert not torch.allclose(glass, rain)


@pytest.mark.parametrize("values", [{"dim": 9}, {"num_buckets": 0}, {"words": ("rain", "rain")}, {"dropout": 1.0}])
def test_values_that_make_no_sense(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        TextConfig(**values)  # type: ignore[arg-type]


VECTORS = {
    # In the order of how frequent they are; "woof" is near "dog", a word of sounds, and nothing else is.
    "the": (1.0, 0.0, 0.1, 0.0),
    "of": (0.9, 0.1, 0.0, 0.3),
    "tax": (0.0, 0.0, 1.0, 0.2),
    "dog": (0.1, 1.0, 0.0, 0.0),
    "duty": (0.1, 0.0, 0.9, 0.4),
    "woof": (0.0, 2.0, 0.1, 0.1),
    "kazoo": (0.0, 0.1, 0.5, 0.8),
}


def as_text(path: Path) -> Path:
    path.write_text("".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in VECTORS.items()))
    return path


def as_json(path: Path) -> Path:
    """With the vector's length and the word's place behind it, words in any order, and what is no word."""
    numbered = {
        word: [*vector, float(np.linalg.norm(vector)), number] for number, (word, vector) in enumerate(VECTORS.items())
    }
    content = {"precision": 8, "words": list(VECTORS), "vectors": {**dict(reversed(numbered.items())), ",": [0.5] * 6}}
    path.write_text(json.dumps(content, separators=(",", ":")))
    return path


@pytest.mark.parametrize("write", [as_text, as_json])
def test_vectors_of_frequent_words_sounds_and_what_is_wanted(tmp_path: Path, write: object) -> None:
    path: Path = write(tmp_path / f"vectors{'.json' if write is as_json else '.txt'}")  # type: ignore[operator]
    words, vectors = read_vectors(path, num_words=3, dim=0, wanted=["kazoo", "unheard"])
    assert words == ("the", "of", "tax", "dog", "woof", "kazoo")
    expected = np.array([VECTORS[word] for word in words])
    assert vectors == pytest.approx(expected / np.linalg.norm(expected, axis=1, keepdims=True), abs=1e-6)


def test_fewer_dimensions_keep_what_is_near(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    # All of them in one plane of four dimensions, and a little outside it.
    turned = rng.standard_normal((9, 2)) @ rng.standard_normal((2, 4)) + 0.01 * rng.standard_normal((9, 4))
    lines = [f"{'abcdefghi'[row]} {' '.join(map(str, turned[row].round(6)))}\n" for row in range(9)]
    (tmp_path / "vectors.txt").write_text("".join(lines))
    words, whole = read_vectors(tmp_path / "vectors.txt", dim=0)
    _, short = read_vectors(tmp_path / "vectors.txt", dim=2)
    assert words == tuple("abcdefghi")
    assert short.shape == (9, 2)
    assert short @ short.T == pytest.approx(whole @ whole.T, abs=0.05)


def test_a_file_that_holds_no_vectors(tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match=r"nowhere\.txt: cannot be read as word vectors"):
        read_vectors(tmp_path / "nowhere.txt")
    (tmp_path / "other.txt").write_text("Call me Ishmael.\n")
    with pytest.raises(AuriscopeError, match="holds no word vectors"):
        read_vectors(tmp_path / "other.txt")
