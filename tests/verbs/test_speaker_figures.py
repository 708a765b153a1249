"""What evaluate tells of speaker models, and the calibration that goes with shipped weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.data.manifest import Entry, write_manifest
from auriscope.data.voices import CLIPS, HALVES, trials
from auriscope.errors import AuriscopeError
from auriscope.metrics.eer import equal_error_rate, min_dcf
from auriscope.pretrained import load
from auriscope.pretrained.addresses import weights_sha256
from auriscope.speaker import ECAPA, Embedder
from auriscope.speaker.calibration import Calibration
from auriscope.verbs.evaluate import evaluate
from auriscope.verbs.speaker_figures import calibrate_folder


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "embedder"
    ECAPA.from_config(ECAPA.Tiny).save_pretrained(folder)
    return folder


@pytest.fixture
def corpora(tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten speakers of two recordings each, every one with a noise of their own colour."""
    root = tmp_path / "corpora"
    for corpus in ("libri_251spk", "libri_other_10spk", "commonvoice_en"):
        entries = []
        for number in range(20):
            name, seconds = f"audio/{number}.wav", 0.8 + 0.02 * number
            noise = trees.voice(number, int(16_000 * seconds))
            speaker = f"{corpus}{number // 2}"
            spectrum = np.fft.rfft(noise, axis=0)
            bands = np.interp(np.linspace(0, 1, len(spectrum)), np.linspace(0, 1, 12), _colour(number // 2))
            trees.write(root / corpus / name, np.fft.irfft(spectrum * bands[:, None], len(noise), axis=0), 16_000)
            entries += [Entry(name, split, seconds, speaker=f"{split}{speaker}") for split in ("valid", "test")]
        write_manifest(root / corpus / "manifest.csv", entries)
    monkeypatch.setenv("AURISCOPE_CORPORA", str(root))
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path / "cache"))
    return root


def _colour(person: int) -> np.ndarray:
    return np.exp(np.random.default_rng(person).normal(0.0, 1.5, 12))


def test_figures_are_those_of_the_cosines(embedder: Path, corpora: Path) -> None:
    told: list[float] = []
    result = evaluate(str(embedder), CLIPS, on_progress=told.append)
    assert told[-1] == 1.0
    assert (result.set, result.split, result.num_mixtures) == (CLIPS, "test", 190)
    model, found = load(embedder), trials(CLIPS, "test")
    assert isinstance(model, Embedder)
    with torch.no_grad():
        voices = [model(torch.from_numpy(found[index])[None])[0] for index in range(len(found))]
    scores = [
        float(torch.cosine_similarity(voices[one], voices[other], dim=0))
        for one, other in zip(found.first, found.second, strict=True)
    ]
    eer = result.figures["eer_percent"]
    assert eer.value == pytest.approx(100 * equal_error_rate(scores, found.targets).value, abs=0.6)
    assert result.figures["min_dcf"].value == pytest.approx(min_dcf(scores, found.targets).value, abs=0.05)
    assert eer.low is not None
    assert eer.high is not None
    assert eer.low <= eer.value <= eer.high


def test_the_command_prints_them(embedder: Path, corpora: Path) -> None:
    finished = CliRunner().invoke(app, ["evaluate", str(embedder), HALVES, "--split", "valid", "--json"])
    assert finished.exit_code == 0, finished.output
    values = json.loads(finished.stdout)
    # 40 utterances, and each with 38 of other speakers.
    assert values["num_mixtures"] == 40 + 40 * 38
    assert values["eer_percent_low"] <= values["eer_percent"] <= values["eer_percent_high"]
    shown = CliRunner().invoke(app, ["evaluate", str(embedder), HALVES])
    assert "(test, 1560 trials)" in shown.output


def test_what_does_not_fit_is_one_line(embedder: Path, corpora: Path, tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match="there are no trials 'libri2mix-mini-clean'"):
        evaluate(str(embedder), "libri2mix-mini-clean")
    with pytest.raises(AuriscopeError, match="leave --separator out"):
        evaluate(str(embedder), HALVES, separators=("separation/bandsplit.mini",))


def test_the_calibration_lies_beside_the_weights(embedder: Path, corpora: Path) -> None:
    written = calibrate_folder(embedder, (HALVES, CLIPS))
    found = Calibration.of(embedder, weights_sha256(embedder))
    assert found == written
    assert found is not None
    assert found.trials == f"{HALVES} valid, {CLIPS} valid"
    assert found.num_targets == 40 + 10
    assert -1.0 < found.threshold < 1.0
    assert 0.0 <= found.expected_error < 0.5
