"""Figures of retrieval: captions find sounds and sounds captions, in a prepared folder, by the verb and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.crossmodal.clap import CLAP
from auriscope.crossmodal.windows import embed_recording
from auriscope.data.prepared_captioned import PreparedCaptioned, PreparedCaptions, write_captioned
from auriscope.errors import AuriscopeError, CorpusError
from auriscope.pretrained import load
from auriscope.signal.files import read
from auriscope.verbs.evaluate import evaluate
from auriscope.verbs.retrieval_figures import holds_captions, retrieval_figures

from .sound_folders import sound, tiny_clap

SAID = (
    ("rain", "a dog barking"),
    ("rain", "water"),
    # The same words as above, written otherwise.
    ("A dog barking.",),
    ("a bell",),
    *((f"thing number{number}",) for number in range(9)),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioned")
    tiny_clap(folder / "model")
    sounds = []
    for number, captions in enumerate(SAID):
        # One is longer than a window.
        seconds = 5.0 if number == 3 else 1.0
        sound(folder / f"audio/{number}.flac", number, seconds)
        frames = round(seconds * 16_000)
        sounds.append(PreparedCaptions(f"audio/{number}.flac", "test", captions, f"{number // 2}", frames, 16_000))
    write_captioned(PreparedCaptioned("things", "", folder, tuple(sounds)), folder / "manifest")
    return folder


def test_figures_are_those_of_a_slow_search(place: Path) -> None:
    model = load(place / "model")
    assert isinstance(model, CLAP)
    told: list[float] = []
    number, figures = retrieval_figures(model, str(place / "manifest"), "test", told.append)
    assert number == len(SAID) == len(told)
    assert told[-1] == 1.0
    # Captions of the same words are one query, and every sound that it is said of is right.
    right = {"rain": {0, 1}, "a dog barking": {0, 2}, "water": {1}, "a bell": {3}}
    right |= {captions[0]: {place} for place, captions in enumerate(SAID) if place > 3}
    audio = [
        embed_recording(model, torch.from_numpy(read(place / f"audio/{each}.flac")[0])) for each in range(len(SAID))
    ]
    values: dict[str, list[float]] = {"recall_at_1": [], "recall_at_5": [], "map_at_10": []}
    for text, sounds in right.items():
        (query,) = model.embed_text([text]).detach()
        order = sorted(range(len(SAID)), key=lambda each: -float(query @ audio[each]))
        hits = [each in sounds for each in order]
        values["recall_at_1"].append(hits[0])
        values["recall_at_5"].append(any(hits[:5]))
        places = [rank for rank, hit in enumerate(hits[:10], start=1) if hit]
        values["map_at_10"].append(sum((nth + 1) / rank for nth, rank in enumerate(places)) / len(sounds))
    for name, own in values.items():
        value, low, high = figures[f"text_to_sound_{name}_percent"]
        assert value == pytest.approx(100.0 * np.mean(own))
        assert low is not None
        assert high is not None
        assert low <= value <= high
    # Of a sound, any caption of its own is right.
    texts = list(right)
    vectors = model.embed_text(texts).detach()
    best = [texts[int((vectors @ each).argmax())] for each in audio]
    hits = [place in right[text] for place, text in enumerate(best)]
    assert figures["sound_to_text_recall_at_1_percent"][0] == pytest.approx(100.0 * np.mean(hits))
    assert len(figures) == 8


def test_evaluate_takes_captions(place: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(place / "model"), str(place / "manifest"), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["num_mixtures"] == len(SAID)
    assert 0.0 <= result["text_to_sound_map_at_10_percent"] <= 100.0
    with pytest.raises(AuriscopeError, match="holds captions, not classes"):
        evaluate(str(place / "model"), str(place / "manifest"), templates=["a sound of {}"])


def test_one_caption_is_nothing_to_find(place: Path, tmp_path: Path) -> None:
    sounds = tuple(PreparedCaptions(f"audio/{each}.flac", "test", ("rain",), "a", 16_000, 16_000) for each in range(2))
    write_captioned(PreparedCaptioned("alike", "", place, sounds), tmp_path / "manifest")
    with pytest.raises(AuriscopeError, match="fewer than two different captions"):
        evaluate(str(place / "model"), str(tmp_path / "manifest"))


def test_which_sets_have_captions(place: Path, tmp_path: Path) -> None:
    assert holds_captions("sound-captions")
    assert holds_captions(str(place / "manifest"))
    # Also a set of labelled sounds, and as such measured.
    assert not holds_captions("noise")
    assert not holds_captions("sound-events")
    (tmp_path / "corpus.json").write_text("[]")
    with pytest.raises(CorpusError, match="cannot be read"):
        holds_captions(str(tmp_path))
