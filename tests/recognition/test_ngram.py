from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path

import kenlm
import numpy as np
import pytest
import torch

from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.recognition.arpa import KenLM, read_arpa, write_arpa
from auriscope.recognition.ngram import NEVER, NGram, NGramConfig, WordNGram

WORDS = ["A", "CAT", "DOG", "SAT", "RAN", "THE", "ON", "MAT"]
LN10 = math.log(10.0)


def texts(number: int = 400) -> list[str]:
    """Sentences in which what follows depends on what was before."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(number):
        words = [WORDS[rng.integers(len(WORDS))]]
        while rng.random() < 0.8:
            words.append(WORDS[(WORDS.index(words[-1]) * 3 + int(rng.integers(4))) % len(WORDS)])
        made.append(" ".join(words))
    return made


def total(model: WordNGram | KenLM, text: str) -> float:
    state, found = model.start_state(), 0.0
    for word in text.split():
        log_prob, state = model.score_word(state, word)
        found += log_prob
    return found + model.score_end(state)


@pytest.fixture(params=[(1, ()), (2, ()), (3, ()), (4, (0, 0, 1, 2))], ids=["1", "2", "3", "4 pruned"])
def model(request: pytest.FixtureRequest) -> WordNGram:
    order, prune = request.param
    return WordNGram.of_texts(texts(), order=order, prune=prune)


def test_what_may_follow_sums_to_one(model: WordNGram) -> None:
    state = model.start_state()
    for word in ["THE", "CAT", "SAT", "HERE", "ON"]:
        nexts = [model.score_word(state, other)[0] for other in [*WORDS, "HERE"]]
        assert sum(map(math.exp, [*nexts, model.score_end(state)])) == pytest.approx(1.0, abs=1e-5)
        _, state = model.score_word(state, word)


def test_longer_contexts_know_the_text_better() -> None:
    train, held = texts()[:300], texts()[300:]
    models = [WordNGram.of_texts(train, order=order) for order in (1, 2, 3)]
    scores = [sum(total(model, text) for text in held) for model in models]
    assert scores[1] > scores[0] + 50
    # Two words tell all there is; a third must not hurt much.
    assert abs(scores[2] - scores[1]) < 30


def test_counts_follow_the_formula_of_kneser_and_ney() -> None:
    listed = ["A B", "A B", "A C", "B A", "C B", "A B A", "B C C", "C A A B"]
    model = WordNGram.of_texts(listed, order=2)
    pairs = [pair for text in listed for pair in itertools.pairwise(["<s>", *text.split(), "</s>"])]
    counts = {pair: pairs.count(pair) for pair in set(pairs)}

    def discounts(values: list[int]) -> list[float]:
        n = [sum(value == number for value in values) for number in range(5)]
        if not n[1] or not n[2]:
            return [0.0, 0.5, 0.5, 0.5]
        y = n[1] / (n[1] + 2 * n[2])
        three = 3 - 4 * y * n[4] / n[3] if n[3] else 0.5
        raw = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], three]
        return [0.0, *(min(max(value, 0.05), number) for number, value in enumerate(raw, 1))]

    kinds = {word: len({a for a, b in counts if b == word}) for word in ["A", "B", "C", "</s>"]}
    low = discounts([*kinds.values(), 0, 0])
    high = discounts(list(counts.values()))
    # The units are the three words, the end, and what is unknown.
    left = sum(low[min(kind, 3)] for kind in kinds.values()) / sum(kinds.values())
    single = {w: (kind - low[min(kind, 3)]) / sum(kinds.values()) + left / 5 for w, kind in kinds.items()}

    def expected(first: str, second: str) -> float:
        row = {b: count for (a, b), count in counts.items() if a == first}
        whole = sum(row.values())
        gamma = sum(high[min(count, 3)] for count in row.values()) / whole
        seen = row.get(second, 0)
        return max(seen - high[min(seen, 3)], 0) / whole + gamma * single[second]

    for text in listed:
        words = ["<s>", *text.split(), "</s>"]
        wanted = sum(math.log(expected(a, b)) for a, b in itertools.pairwise(words))
        assert total(model, text) == pytest.approx(wanted, abs=1e-4)


def test_kenlm_reads_our_file_to_the_same_scores(model: WordNGram, tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    write_arpa(model, path)
    if model.num_lengths == 1:
        pytest.skip("KenLM reads no unigram models")
    theirs = kenlm.Model(str(path))
    again = read_arpa(path)
    for text in [*texts()[:60], "", "NOBODY SAT ON THE CAT", "CAT CAT CAT CAT"]:
        wanted = theirs.score(text, bos=True, eos=True) * LN10
        assert total(model, text) == pytest.approx(wanted, abs=1e-4)
        assert total(again, text) == pytest.approx(wanted, abs=1e-4)
    assert set(again.vocabulary) == set(model.vocabulary)


def test_a_packed_file_is_read(model: WordNGram, tmp_path: Path) -> None:
    write_arpa(model, tmp_path / "model.arpa")
    packed = tmp_path / "model.arpa.gz"
    packed.write_bytes(gzip.compress((tmp_path / "model.arpa").read_bytes()))
    assert total(read_arpa(packed), "THE CAT SAT") == pytest.approx(total(model, "THE CAT SAT"), abs=1e-4)


def test_kenlms_own_format_is_asked_through_its_library(tmp_path: Path) -> None:
    model = WordNGram.of_texts(texts(), order=3)
    path = tmp_path / "model.arpa"
    write_arpa(model, path)
    with pytest.raises(AuriscopeError, match=r"model.arpa.words: KenLM's binaries need their words"):
        KenLM(path)
    path.with_name("model.arpa.words").write_text("\n".join(WORDS))
    theirs = KenLM(path)
    assert theirs.vocabulary == WORDS
    for text in texts()[:20]:
        assert total(theirs, text) == pytest.approx(total(model, text), abs=1e-4)
    (tmp_path / "broken.bin").write_bytes(b"nothing")
    (tmp_path / "broken.bin.words").write_text("A")
    with pytest.raises(AuriscopeError, match=r"broken.bin: is not a language model"):
        KenLM(tmp_path / "broken.bin")


ARPA = """\\data\\
ngram 1=3
ngram 2=1

\\1-grams:
-99\t<s>\t-0.1
-0.5\t</s>
-0.3\tA\t-0.2

\\2-grams:
-0.2\t<s> A

\\end\\
"""


@pytest.mark.parametrize(
    ("change", "line", "what"),
    [
        (("\\data\\", "\\dota\\"), 13, "ends before"),
        (("ngram 1=3", "ngram 1=many"), 2, "is no size of n-grams"),
        (("ngram 1=3", "ngram 1=2"), 8, r"'-0.3\\tA\\t-0.2' stands where \\2-grams: belongs"),
        (("-0.3\tA", "low\tA"), 8, "does not begin with a logarithm"),
        (("<s> A", "<s> B"), 11, "the word 'B' is none of the unigrams"),
        (("<s> A", "<s>"), 11, "is no n-gram of 2 words"),
        (("\\2-grams:", "\\3-grams:"), 10, r"stands where \\2-grams: belongs"),
        (("\\end\\", "-0.1\tA A"), 13, "are there more n-grams"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, change: tuple[str, str], line: int, what: str) -> None:
    path = tmp_path / "model.arpa"
    path.write_text(ARPA)
    assert total(read_arpa(path), "A") == pytest.approx((-0.2 - 0.2 - 0.5) * LN10, abs=1e-5)
    path.write_text(ARPA.replace(*change))
    with pytest.raises(AuriscopeError, match=f"model.arpa, line {line}: not a valid ARPA file: .*{what}"):
        read_arpa(path)
    with pytest.raises(AuriscopeError, match="cannot be read as an ARPA file"):
        read_arpa(tmp_path / "nothing.arpa")


@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_beam_of_prefixes_gets_what_each_text_gets_alone(order: int) -> None:
    words = WordNGram.of_texts(texts(), order=order)
    model = NGram(NGramConfig(words.config.tokens, "words", order=order)).fit(texts())
    sentences = [text.split()[:4] for text in texts() if len(text.split()) >= 4][:6]
    tokens = torch.tensor([model.tokenizer.encode(" ".join(sentence)) for sentence in sentences]).reshape(2, 3, 4)
    state = model.start(2, 3)
    read = torch.full((2, 3), 1)
    states = [words.start_state()] * 6
    for column in range(4):
        log_probs, state = model.step(read, state)
        assert log_probs[..., 0].max() <= NEVER + 1
        for row in range(6):
            expected = [words.score_word(states[row], word)[0] for word in words.vocabulary]
            numbers = model.tokenizer.encode(" ".join(words.vocabulary))
            own = log_probs.reshape(6, -1)[row, numbers]
            torch.testing.assert_close(own, torch.tensor(expected), rtol=1e-4, atol=1e-4)
            assert log_probs.reshape(6, -1)[row, 1].item() == pytest.approx(words.score_end(states[row]), abs=1e-4)
            states[row] = words.score_word(states[row], sentences[row][column])[1]
        read = tokens[..., column]
    moved = model.select(state, torch.tensor([[2, 0, 0], [1, 1, 2]]))
    assert torch.equal(moved[0, 1], state[0, 0])
    assert torch.equal(model.keep(moved, torch.tensor([1]))[0], moved[1])


def test_letters_are_units_too() -> None:
    model = NGram(NGramConfig(order=4)).fit(texts())
    tokens = torch.tensor([[1, *model.tokenizer.encode("THE CAT SAT")]])
    log_probs = model(tokens)
    assert log_probs.exp().sum(-1).sub(1).abs().max() < 1e-4
    follow = {model.tokenizer.tokens[number] for number in log_probs[0, -1].topk(2).indices}
    assert follow == {" ", "<eos>"}


def test_a_saved_model_is_the_same_and_small(model: WordNGram, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "exact")
    model.save_pretrained(tmp_path / "half", half=True)
    exact, half = load(str(tmp_path / "exact")), load(str(tmp_path / "half"))
    assert isinstance(exact, WordNGram)
    for text in texts()[:20]:
        assert total(exact, text) == total(model, text)
        assert total(half, text) == pytest.approx(total(model, text), rel=2e-3)


def test_what_is_not_fitted_or_cannot_be_says_so() -> None:
    with pytest.raises(AuriscopeError, match="has not been fitted"):
        NGram(NGramConfig()).start(1, 1)
    with pytest.raises(AuriscopeError, match="needs sentences"):
        NGram(NGramConfig()).fit([])
    with pytest.raises(ValueError, match="must not fall"):
        NGramConfig(prune=(0, 2, 1))
