from __future__ import annotations

import gzip
import itertools
import math
import sys
from collections import Counter
from pathlib import Path

import kenlm
import numpy as np
import pytest
import torch

from auriscope.errors import AuriscopeError
from auriscope.pretrained import load, model_class
from auriscope.recognition.arpa import KenLM, read_arpa, write_arpa
from auriscope.recognition.ngram import NEVER, NGram, NGramConfig, WordNGram

WORDS = ["A", "CAT", "DOG", "SAT", "RAN", "THE", "ON", "MAT"]
LN10 = math.log(10.0)
FIXTURES = Path(__file__).parent / "fixtures"


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


@pytest.mark.parametrize("kind", ["probing", "trie"])
def test_kenlms_own_format_is_asked_through_its_library(kind: str, tmp_path: Path) -> None:
    # Built of the ARPA file by KenLM's build_binary.
    path = FIXTURES / f"cats.{kind}.binary"
    theirs, ours = KenLM(path), read_arpa(FIXTURES / "cats.arpa")
    assert sorted(theirs.vocabulary) == sorted(ours.vocabulary) == sorted([*WORDS, "CAFÉ"])
    for text in [*texts()[:20], "CAFÉ CAT", "NOBODY SAT"]:
        assert total(theirs, text) == pytest.approx(total(ours, text), abs=1e-4)
    content = path.read_bytes()
    broken = tmp_path / "broken.binary"
    for damaged, what in [
        (b"nothing", "is not a binary of KenLM"),
        (content[:99], "is not a binary of KenLM"),
        (content[:-9], "is damaged: its 12 words are not at its end"),
        (content[:100] + b"\0" + content[101:], "was built without its words"),
    ]:
        broken.write_bytes(damaged)
        with pytest.raises(AuriscopeError, match=f"broken.binary: {what}"):
            KenLM(broken)
    with pytest.raises(AuriscopeError, match="cannot be read: No such file"):
        KenLM(tmp_path / "nothing.binary")


def test_without_the_library_kenlms_format_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(AuriscopeError, match=r"need the library kenlm: pip install 'auriscope\[kenlm\]'"):
        KenLM(FIXTURES / "cats.trie.binary")


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
        (("-0.3\tA", "0.3\tA"), 8, "the logarithm of a probability"),
        (("-0.3\tA\t-0.2", "-0.3\tA\tnan"), 8, "or end with one of a weight"),
        (("-0.3\tA", "-0.3\t</s>"), 8, "the n-gram '</s>' has come before"),
        (("<s> A", "A <s>"), 11, "has an end of a sentence within"),
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


def test_an_n_gram_without_its_context_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    text = (FIXTURES / "cats.arpa").read_text(encoding="utf-8")
    lines = text.splitlines()
    place = next(number for number, line in enumerate(lines) if line.split("\t")[1:2] == ["<s> THE"])
    lines[place] = "-1.0\tCAFÉ CAFÉ\t0.0"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(
        AuriscopeError, match=r"line \d+: .* 'CAFÉ CAFÉ' has come|line \d+: .* '<s> THE .*' has a context"
    ):
        read_arpa(path)


def test_what_begins_a_sentence_may_have_a_number_of_its_own() -> None:
    shared = NGram(NGramConfig(order=3)).fit(texts())
    own = NGram(NGramConfig((*shared.config.tokens, "<bos>"), order=3, bos_id=len(shared.config.tokens))).fit(texts())
    numbers = shared.tokenizer.encode("THE CAT SAT")
    found = own(torch.tensor([[own.tokenizer.bos_id, *numbers]]))
    torch.testing.assert_close(found[..., :-1], shared(torch.tensor([[1, *numbers]])))
    assert (found[..., -1] <= NEVER + 1).all()


def test_pruned_trigrams_follow_the_formula_counted_out() -> None:
    listed, prune = texts(60), (0, 1, 1)
    model = WordNGram.of_texts(listed, order=3, prune=prune)
    framed = [("<s>", *text.split(), "</s>") for text in listed]

    def grams(length: int) -> Counter[tuple[str, ...]]:
        return Counter(text[at : at + length] for text in framed for at in range(len(text) - length + 1))

    raw = {length: grams(length) for length in (1, 2, 3)}
    # What may precede a shorter n-gram counts; all of it if nothing may.
    adjusted = {3: dict(raw[3])}
    for length in (1, 2):
        before = Counter(longer[1:] for longer in raw[length + 1])
        adjusted[length] = {
            gram: raw[length][gram] if gram[0] == "<s>" and length > 1 else before[gram] for gram in raw[length]
        }
    discounts = {}
    for length, counts in adjusted.items():
        n = [sum(value == number for value in counts.values()) for number in range(5)]
        if n[1] and n[2]:
            y = n[1] / (n[1] + 2 * n[2])
            three = 3 - 4 * y * n[4] / n[3] if n[3] else 0.5
            found = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], three]
            discounts[length] = [0.0, *(min(max(value, 0.05), number) for number, value in enumerate(found, 1))]
        else:
            discounts[length] = [0.0, 0.5, 0.5, 0.5]

    def probability(gram: tuple[str, ...]) -> float:
        length = len(gram)
        counts = adjusted[length]
        row = {each: count for each, count in counts.items() if each[:-1] == gram[:-1] and count}
        # The words, the end, and what is unknown.
        shorter = probability(gram[1:]) if length > 1 else 1.0 / (len(model.vocabulary) + 2)
        if not row:
            return shorter
        whole = sum(row.values())
        taken = {
            each: max(count - discounts[length][min(count, 3)], 0.0)
            for each, count in row.items()
            if length == 1 or raw[length][each] > prune[length - 1]
        }
        return taken.get(gram, 0.0) / whole + (1.0 - sum(taken.values()) / whole) * shorter

    for text in framed[:12]:
        wanted = math.log(probability(text[:2]))
        wanted += sum(math.log(probability(text[at - 2 : at + 1])) for at in range(2, len(text)))
        assert total(model, " ".join(text[1:-1])) == pytest.approx(wanted, abs=1e-4)


def test_the_models_are_found_by_their_names() -> None:
    for cls in (NGram, WordNGram):
        assert model_class(cls.name) is cls
        blank = cls.from_config({})
        assert blank.num_parameters > 0
        assert list(blank.parameters()) == []
        assert blank.device == torch.device("cpu")
        with pytest.raises(AuriscopeError, match=f"{cls.name} has not been fitted"):
            blank(torch.tensor([[1]]))


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
