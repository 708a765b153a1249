"""What evaluate tells of synthesisers, and that one ships: with real models, on miniature corpora."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.data.manifest import Entry, write_manifest
from auriscope.data.sentences import SentenceSet
from auriscope.errors import AuriscopeError, CorpusError
from auriscope.pretrained import load
from auriscope.pretrained.card import ModelCard
from auriscope.synthesis import GriffinLim, Tacotron2
from auriscope.training.checkpoints import save_weights
from auriscope.training.recipe import build_model, read_recipe
from auriscope.verbs.evaluate import evaluate
from auriscope.verbs.shipped import Place, improve
from auriscope.verbs.synthesis_figures import synthesis_figures

from .speller import Speller, SpellerConfig

TEXTS = ("A HAT", "is it?", "", "GO ON", "1 day")
SPEAKERS = ("19", "19", "19", "unknown", "7")
MEL = {"sample_rate": 16_000, "num_mels": 20}
LIST = """
models:
  synthesis/tacotron2.any:
    recipe: any.yaml
    title: Any
    summary: Babbles.
    figure: attention_ok_percent
    floors: {mini: 90.0}
    bits: 8
licence: CC-BY-4.0
attributions: {mini: made here}
"""


def _recipe() -> str:
    voices = {"voice_dim": 192, "voice_model": "speaker/ecapa.mini"}
    model = {"architecture": "synthesis/tacotron2", "config": {**Tacotron2.Tiny, "mel": MEL, **voices}}
    return json.dumps({"task": "synthesis", "model": model, "data": {"corpora": ["mini"]}})


@pytest.fixture
def corpora(tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two people and somebody unknown, of whom one has three clips."""
    root, entries = tmp_path / "corpora", []
    for number, (text, speaker) in enumerate(zip(TEXTS, SPEAKERS, strict=True)):
        name, seconds = f"audio/{number}.wav", 0.8 + 0.1 * number
        trees.write(root / "mini" / name, trees.voice(number, int(16_000 * seconds)), 16_000)
        for split in ("valid", "test") if number < 2 else ("test",):
            entries.append(Entry(name, split, seconds, speaker=speaker, text=text))
    write_manifest(root / "mini/manifest.csv", entries)
    monkeypatch.setenv("AURISCOPE_CORPORA", str(root))
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path / "cache"))
    return root


@pytest.mark.usefixtures("corpora")
def test_the_sentences_and_the_voices_that_say_them() -> None:
    found = list(SentenceSet("mini", "test"))
    assert [each.text for each in found] == ["A HAT", "is it?", "GO ON", "1 day"]
    # The longest other clip, with or without a text; of people who are not told apart there is none.
    assert [None if each.voice is None else len(each.voice) for each in found] == [16_000, 16_000, None, None]
    assert [len(each.recording) for each in found] == [12_800, 14_400, 17_600, 19_200]
    assert [each.text for each in SentenceSet("mini", "test", max_items=2)] == ["A HAT", "1 day"]
    with pytest.raises(CorpusError, match="no entry in the split"):
        SentenceSet("mini", "train")


@pytest.mark.usefixtures("corpora")
def test_a_model_of_voices_gets_all_figures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    (tmp_path / "any.yaml").write_text(_recipe())
    build_model(read_recipe(tmp_path / "any.yaml")).save_pretrained(tmp_path / "model")
    told: list[float] = []
    result = evaluate(str(tmp_path / "model"), "mini", on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert (result.set, result.split, result.num_mixtures) == ("mini", "test", 4)
    values = {name: figure.value for name, figure in result.figures.items()}
    assert list(values) == [
        "attention_ok_percent", "character_error_percent", "character_error_percent_real", "character_error_gap",
        "voice_similarity", "voice_similarity_real",
    ]  # fmt: skip
    for name, figure in result.figures.items():
        ends = (figure.low, figure.value, figure.high)
        assert all(end is not None and math.isfinite(end) for end in ends), name
        assert figure.low <= figure.value <= figure.high, name  # type: ignore[operator]
    assert 0 <= values["attention_ok_percent"] <= 100  # type: ignore[operator]
    difference = values["character_error_percent"] - values["character_error_percent_real"]  # type: ignore[operator]
    assert values["character_error_gap"] == pytest.approx(difference)
    assert all(-1 <= values[name] <= 1 for name in ("voice_similarity", "voice_similarity_real"))  # type: ignore[operator]


@pytest.mark.usefixtures("corpora")
def test_the_attention_of_a_model_that_reads_is_counted_at_the_first_try() -> None:
    figures = synthesis_figures(Speller(SpellerConfig()), SentenceSet("mini", "test"), lambda _: None)
    assert figures["attention_ok_percent"] == (100.0, 100.0, 100.0)
    assert "voice_similarity" not in figures


@pytest.mark.usefixtures("corpora")
def test_a_vocoder_and_options_of_others_are_one_line(tmp_path: Path) -> None:
    GriffinLim.from_config({}).save_pretrained(tmp_path / "vocoder")
    with pytest.raises(AuriscopeError, match="is a vocoder and speaks no texts; give a synthesiser"):
        evaluate(str(tmp_path / "vocoder"), "mini")
    (tmp_path / "any.yaml").write_text(_recipe())
    build_model(read_recipe(tmp_path / "any.yaml")).save_pretrained(tmp_path / "model")
    with pytest.raises(AuriscopeError, match="are for recognisers only"):
        evaluate(str(tmp_path / "model"), "mini", language_model="recognition/word-ngram.en")
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "model"), "none"])
    assert done.exit_code == 1
    assert "there is no corpus 'none'" in done.stderr


@pytest.mark.usefixtures("corpora")
def test_a_voice_ships(tmp_path: Path) -> None:
    place = Place(tmp_path / "recipes/shipped.yaml", tmp_path / "runs", tmp_path / "weights")
    place.list_file.parent.mkdir()
    place.list_file.write_text(LIST)
    (tmp_path / "recipes/any.yaml").write_text(_recipe())
    torch.manual_seed(0)
    weights = build_model(read_recipe(tmp_path / "recipes/any.yaml")).state_dict()
    # It stops at once, with too little said to tell a voice.
    weights["stop.bias"] += 9.0
    save_weights(place.runs / "any/best.safetensors", weights, {"step": 3, "hours_of_audio": 0.0})
    (place.runs / "any/recipe.yaml").write_text("init_from: runs/other/model\n")
    assert improve(0, place) == ["synthesis/tacotron2.any"]
    card = ModelCard.read(place.weights / "synthesis/tacotron2.any")
    assert (card.data, card.attributions, card.audio_hours) == (("mini",), ("made here",), None)
    assert card.command == f"auriscope train {tmp_path}/recipes/any.yaml init_from=runs/other/model"
    assert (card.metrics["attention_ok_percent mini test"], card.metrics["voice_similarity mini test"]) == (0.0, 0.0)
    assert {"attention_ok_percent mini valid", "character_error_gap mini test"} <= set(card.metrics)
    assert load(place.weights / "synthesis/tacotron2.any").config.voice_model == "speaker/ecapa.mini"
