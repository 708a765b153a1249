"""Evaluating on prepared corpora: one command, at the model's rate, stems as MUSDB18 is reported."""

from __future__ import annotations

import json
import types
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.data.prepared import read_prepared
from auriscope.data.prepared_set import PreparedSet
from auriscope.errors import AuriscopeError
from auriscope.metrics.improvement import si_snri
from auriscope.verbs import evaluate as module
from auriscope.verbs.evaluate import evaluate
from auriscope.verbs.prepare import prepare


class Knowing:
    """Knows the sources of every mixture of some sets and gives them back with an error of a tenth."""

    name, instead = "separation/knowing", ""

    def __init__(self, *sets: PreparedSet, num_sources: int) -> None:
        self.config = types.SimpleNamespace(sample_rate=sets[0].sample_rate, num_sources=num_sources)
        self.answers = [item.sources for items in sets for item in items]
        self.longest = 0

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        self.longest = max(self.longest, mixture.shape[-1])
        return torch.stack([self._answer(row) for row in mixture])

    def _answer(self, row: torch.Tensor) -> torch.Tensor:
        (sources,) = (
            answer for answer in self.answers if answer.shape[-1] == len(row) and self._alike(answer.sum(0), row)
        )
        gain = row.norm() / sources.sum(0).norm()
        return gain * (sources + 0.1 * sources.roll(1, dims=0))

    @staticmethod
    def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
        return float(torch.nn.functional.cosine_similarity(one, other, dim=0)) > 0.99


@pytest.fixture
def wsj0(tmp_path: Path, trees: ModuleType) -> Path:
    return prepare("wsj0-2mix", trees.build_wsj0mix(tmp_path / "wsj0", seconds=0.75), out=tmp_path / "wsj0-2mix").out


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_prepared_folder_takes_the_place_of_a_set(rate: int, wsj0: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = PreparedSet(wsj0, sample_rate=rate)
    model = Knowing(items, num_sources=2)
    monkeypatch.setattr(module, "load", lambda address, offline=None: model)
    result = evaluate("knowing", str(wsj0))
    assert (result.set, result.split, result.num_mixtures) == (str(wsj0), "test", 3)
    expected = []
    for item in items:
        estimates = item.sources + 0.1 * item.sources.roll(1, dims=0)
        expected.append(float(si_snri(estimates[None], item.sources[None], item.mixture[None]).mean()))
    assert result.figures["si_snri_db"].value == pytest.approx(np.mean(expected), abs=0.05)
    with pytest.raises(AuriscopeError, match="split 'dev' must be one of train, valid, test"):
        evaluate("knowing", str(wsj0), split="dev")


def test_a_mixture_is_separated_as_a_whole(tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepare("wsj0-2mix", trees.build_wsj0mix(tmp_path / "w", seconds=11.0), out=tmp_path / "m").out
    model = Knowing(PreparedSet(folder, "valid"), num_sources=2)
    monkeypatch.setattr(module, "load", lambda address, offline=None: model)
    assert evaluate("knowing", str(folder), split="valid").figures["si_snri_db"].value > 15  # type: ignore[operator]
    assert model.longest == max(mixture.num_frames for mixture in read_prepared(folder).split("valid"))


def test_stems_are_measured_one_by_one(tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepare("musdb18", trees.build_musdb(tmp_path / "musdb", 2.5), out=tmp_path / "m").out
    model = Knowing(PreparedSet(folder, "train"), num_sources=4)
    monkeypatch.setattr(module, "load", lambda address, offline=None: model)
    figures = evaluate("knowing", str(folder), split="train").figures
    assert list(figures) == ["sdr_db", "sdr_db_bass", "sdr_db_drums", "sdr_db_other", "sdr_db_vocals"]
    # A tenth of another stem of about the same level: 20 dB; scale and place are held to.
    assert all(abs(figure.value - 20.0) < 3.0 for figure in figures.values())  # type: ignore[operator]
    stems = [figure.value for name, figure in figures.items() if name != "sdr_db"]
    assert figures["sdr_db"].value == pytest.approx(np.mean(stems))  # type: ignore[arg-type]
    assert figures["sdr_db"].low <= figures["sdr_db"].value <= figures["sdr_db"].high  # type: ignore[operator]
    swapped = Knowing(PreparedSet(folder, "train"), num_sources=4)
    swapped.answers = [answer.flip(0) for answer in swapped.answers]
    monkeypatch.setattr(module, "load", lambda address, offline=None: swapped)
    assert evaluate("knowing", str(folder), split="train").figures["sdr_db"].value < 0  # type: ignore[operator]


def test_models_and_stems_that_do_not_fit(tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepare("musdb18", trees.build_musdb(tmp_path / "musdb", 0.2), out=tmp_path / "m").out
    models: dict[str, Any] = {
        "four": Knowing(PreparedSet(folder), num_sources=4),
        "two": Knowing(PreparedSet(folder), num_sources=2),
        "judge": types.SimpleNamespace(name="quality/judge", config=types.SimpleNamespace(sample_rate=44100)),
    }
    monkeypatch.setattr(module, "load", lambda address, offline=None: models[address])
    with pytest.raises(AuriscopeError, match="has 4 stems and the model separates 2; choose another"):
        evaluate("two", str(folder))
    with pytest.raises(AuriscopeError, match="holds stems; a quality model judges talkers"):
        evaluate("judge", str(folder), separators=("four",))
    assert evaluate("four", str(folder)).figures["sdr_db"].value is None, "a song shorter than a chunk has no figure"


def test_on_the_command_line(wsj0: Path, tmp_path: Path) -> None:
    from auriscope.separation import ConvTasNet

    ConvTasNet.from_config({**ConvTasNet.Tiny, "num_sources": 2}).save_pretrained(tmp_path / "model")
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "model"), str(wsj0), "nowhere/wsj0-2mix", "--json"])
    assert done.exit_code == 1
    result, missing = (json.loads(line) for line in done.stdout.splitlines())
    assert (result["num_mixtures"], result["set"]) == (3, str(wsj0))
    assert result["si_snri_db_low"] <= result["si_snri_db"] <= result["si_snri_db_high"]
    assert missing["error"].startswith("there is no evaluation set 'nowhere/wsj0-2mix', nor a prepared folder")
