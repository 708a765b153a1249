"""What evaluate tells of recognisers: equal to jiwer on the texts of single decoding, and intervals over who speaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jiwer
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.data.manifest import Entry, write_manifest
from auriscope.data.spoken import Spoken, SpokenSet
from auriscope.data.transcribed import spoken_set
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.recognition import ConformerCTC
from auriscope.recognition.decoding import DecodingOptions, WordLanguageModel, decode
from auriscope.recognition.rnnlm import RNNLM
from auriscope.verbs.evaluate import evaluate
from auriscope.verbs.language_models import open_language_model, with_language_model
from auriscope.verbs.prepare import prepare
from auriscope.verbs.recognition_figures import recognition_figures, transcribed


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser of random weights that writes something else of everything."""
    torch.manual_seed(3)
    model = ConformerCTC.from_config(ConformerCTC.Tiny)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    folder = tmp_path_factory.mktemp("models") / "recognizer"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def corpora(tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of four speakers, an unlabelled one, and noise."""
    root = tmp_path / "corpora"
    rng = np.random.default_rng(0)
    for corpus in ("labelled", "unlabelled"):
        entries = []
        for number in range(8):
            name = f"audio/{number}.wav"
            seconds = 0.6 + 0.15 * number
            trees.write(root / corpus / name, trees.voice(number, int(16_000 * seconds)), 16_000)
            text = " ".join(rng.choice(["a", "bee", "Well,", "what"], number + 1))
            speaker = "unknown" if corpus == "unlabelled" else str(number // 2)
            entries.append(Entry(name, "test", seconds, speaker=speaker, text=text))
        write_manifest(root / corpus / "manifest.csv", entries)
    trees.write(root / "noise" / "hum.wav", trees.voice(99, 16_000), 16_000)
    write_manifest(root / "noise" / "manifest.csv", [Entry("hum.wav", "test", 1.0, label="hum")])
    monkeypatch.setenv("AURISCOPE_CORPORA", str(root))
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path / "cache"))
    return root


@pytest.mark.usefixtures("corpora")
@pytest.mark.parametrize("name", ["labelled", "labelled-noisy"])
def test_figures_are_those_of_jiwer_on_what_is_decoded_one_by_one(recognizer: Path, name: str) -> None:
    seen: list[float] = []
    result = evaluate(str(recognizer), name, on_progress=seen.append)
    model = load(str(recognizer))
    said, found = [], []
    for spoken in spoken_set(name, "test"):
        said.append(spoken.text)
        found.append(decode(model, torch.from_numpy(spoken.waveform)[None])[0][0].text)
    assert len(set(found)) > 1
    values = {name: figure.value for name, figure in result.figures.items()}
    assert values["word_error_percent"] == pytest.approx(100 * jiwer.wer(said, found))
    assert values["character_error_percent"] == pytest.approx(100 * jiwer.cer(said, found))
    assert values["word_error_percent_over_speakers"] == values["word_error_percent"]
    for figure in result.figures.values():
        assert None not in (figure.low, figure.high)
        assert figure.low <= figure.value <= figure.high
    assert (result.set, result.num_mixtures, result.separators) == (name, 8, ())
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


@pytest.mark.usefixtures("corpora")
def test_speakers_that_are_not_told_apart_have_no_interval_of_theirs(recognizer: Path) -> None:
    assert set(evaluate(str(recognizer), "unlabelled").figures) == {"word_error_percent", "character_error_percent"}


def test_a_recogniser_that_is_right_and_one_that_says_nothing() -> None:
    """Known transcripts have known figures, whatever is written of them beside letters."""
    torch.manual_seed(0)
    model = ConformerCTC.from_config(ConformerCTC.Tiny).eval()
    rng = np.random.default_rng(0)
    sounds = [(0.1 * rng.standard_normal(9_000 + 400 * number)).astype(np.float32) for number in range(4)]
    own = [decode(model, torch.from_numpy(sound)[None])[0][0].text for sound in sounds]
    assert any(own)
    right = [text or "X" for text in own]
    for said in (right, [f"{text} {text}" for text in right]):
        items = SpokenSet("x", "test", lambda n, said=said: Spoken(str(n), sounds[n], said[n], f"x:{n % 2}"), [0.6] * 4)
        figures = recognition_figures(model, items, lambda _: None)
        expected = 100 * jiwer.wer(said, own)
        assert figures["word_error_percent"][0] == pytest.approx(expected)
    silence = np.zeros(9_000, dtype=np.float32)
    items = SpokenSet("x", "test", lambda n: Spoken(str(n), silence, "A B", "x:0"), [0.6] * 4)
    assert recognition_figures(model, items, lambda _: None)["word_error_percent"] == (100.0, 100.0, 100.0)


@pytest.mark.usefixtures("corpora")
def test_a_language_model_and_the_beam_take_part(recognizer: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    helper = RNNLM.from_config(RNNLM.Tiny)
    with torch.no_grad():
        for weight in helper.parameters():
            weight.mul_(4.0)
    helper.save_pretrained(tmp_path / "lm")
    model, address = str(recognizer), str(tmp_path / "lm")
    plain = evaluate(model, "labelled", decoding=DecodingOptions(beam_size=4)).figures
    helped = evaluate(
        model, "labelled", decoding=DecodingOptions(beam_size=4), language_model=address, lm_weight=3.0
    ).figures
    unweighted = evaluate(
        model, "labelled", decoding=DecodingOptions(beam_size=4, search="tokens"), language_model=address, lm_weight=0.0
    ).figures
    alone = evaluate(model, "labelled", decoding=DecodingOptions(beam_size=4, search="tokens")).figures
    assert helped["character_error_percent"].value != plain["character_error_percent"].value
    assert unweighted["character_error_percent"] == alone["character_error_percent"]


ARPA = r"""
\data\
ngram 1=5
ngram 2=1

\1-grams:
-1.0	<unk>
-99	<s>	-0.3
-1.0	</s>
-0.3	E
-0.5	A	-0.2

\2-grams:
-0.1	A A

\end\
"""


@pytest.mark.usefixtures("corpora")
def test_the_file_of_an_n_gram_over_words_takes_part(recognizer: Path, tmp_path: Path) -> None:
    place = tmp_path / "words.arpa"
    place.write_text(ARPA.lstrip(), encoding="utf-8")
    model = open_language_model(str(place))
    assert isinstance(model, WordLanguageModel)
    assert model.score_word(model.start_state(), "A")[0] == pytest.approx((-0.3 - 0.5) * np.log(10))
    options = with_language_model(DecodingOptions(), model)
    assert (options.word_lm_weight, options.word_bonus, options.lm_weight) == (0.5, 2.0, 0.0)
    network, items = load(str(recognizer)), spoken_set("labelled", "test")
    plain = [text for _, text in transcribed(network, items, lambda _: None)]
    strong = with_language_model(DecodingOptions(), model, 9.0)
    helped = [text for _, text in transcribed(network, items, lambda _: None, options=strong, language_model=model)]
    assert helped != plain
    figures = evaluate(str(recognizer), "labelled", language_model=str(place), lm_weight=9.0).figures
    texts = [spoken.text for spoken, _ in transcribed(network, items, lambda _: None)]
    assert figures["character_error_percent"].value == pytest.approx(100 * jiwer.cer(texts, helped))
    place.write_text("no language model", encoding="utf-8")
    with pytest.raises(AuriscopeError, match="not a valid ARPA file"):
        open_language_model(str(place))


@pytest.mark.usefixtures("corpora")
def test_what_does_not_fit_is_said(recognizer: Path, tmp_path: Path, trees: ModuleType) -> None:
    torch.manual_seed(0)
    RNNLM.from_config(RNNLM.Tiny).save_pretrained(tmp_path / "lm")
    mixtures = prepare("wsj0-2mix", trees.build_wsj0mix(tmp_path / "wsj0"), out=tmp_path / "mixtures").out
    for arguments, options, words in (
        ((recognizer, "labelled"), {"separators": ["x"]}, "quality models only"),
        ((recognizer, "nowhere"), {}, "there is no corpus 'nowhere'"),
        ((recognizer, "noise"), {}, "needs speaker"),
        ((recognizer, mixtures), {}, "holds mixtures, not transcribed speech"),
        ((recognizer, "labelled"), {"language_model": str(recognizer)}, "is not a language model"),
        ((tmp_path / "lm", "labelled"), {}, "tells how likely a text is; give a recogniser"),
        (("separation/bandsplit.mini", "libri2mix-mini-clean"), {"language_model": "x"}, "for recognisers only"),
    ):
        with pytest.raises(AuriscopeError, match=words) as caught:
            evaluate(*map(str, arguments), **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("corpora")
def test_the_command_prints_errors_with_their_intervals(recognizer: Path, tmp_path: Path) -> None:
    run: Callable[..., Any] = lambda *given: CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(one) for one in given])  # noqa: E731
    done = run("evaluate", recognizer, "labelled", "nowhere", "unlabelled-noisy", "--beam", 2)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "labelled (test, 8 utterances)"
    assert lines[1].split()[0] == "word_error_percent"
    assert lines[5] == "unlabelled-noisy (test, 8 utterances)"
    assert "there is no corpus 'nowhere'" in done.stderr
    assert run("evaluate", recognizer, "labelled", "--ctc-weight", 2).exit_code == 2
