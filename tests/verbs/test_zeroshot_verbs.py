"""Zero-shot classification of files and of sets: ``classify --labels``, and ``evaluate`` of models with texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

import auriscope
from auriscope.classification import CNN
from auriscope.cli import app
from auriscope.crossmodal import CLAP
from auriscope.crossmodal.zeroshot import TEMPLATES, ZeroShotClassifier
from auriscope.data.captioned import PHRASES
from auriscope.data.manifest import Entry, write_manifest
from auriscope.data.prepared_labelled import PreparedSound, PreparedSounds, write_labelled
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.verbs.evaluate import evaluate

RATE = 16_000
LABELS = ("rain", "a crying baby", "a door")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    CLAP(CLAP.Config(**CLAP.Tiny, window_seconds=1.0)).save_pretrained(place / "clap")
    CNN.from_config({**CNN.Tiny, "labels": ("a", "b")}).save_pretrained(place / "cnn")
    return place


def write(path: Path, seconds: float, seed: int) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * 150 * (seed + 1) * np.arange(round(seconds * RATE)) / RATE)
    waveform = (0.2 * tone + 0.01 * rng.standard_normal(len(tone))).astype(np.float32)
    soundfile.write(path, waveform, RATE, subtype="FLOAT")
    return waveform


def test_a_recording_is_told_by_the_names_that_are_given(folder: Path, tmp_path: Path) -> None:
    waveform = write(tmp_path / "a.wav", 2.0, 0)
    (result,) = auriscope.classify(tmp_path / "a.wav", model=folder / "clap", labels=LABELS, top=3)
    classifier = ZeroShotClassifier(load(folder / "clap"), LABELS)  # type: ignore[arg-type]
    # By default a window is what the model hears at once, and begins in the middle of the one before.
    windows = torch.stack([torch.from_numpy(waveform[first : first + RATE]) for first in (0, RATE // 2, RATE)])
    expected = classifier.predict_proba(windows).mean(0)
    found = {each.label: each.probability for each in result.labels}
    assert found == pytest.approx(dict(zip(LABELS, expected.tolist(), strict=True)), abs=1e-5)
    assert [window.start_seconds for window in result.windows] == [0.0, 0.5, 1.0]
    (prompted,) = auriscope.classify(
        tmp_path / "a.wav", model=folder / "clap", labels=LABELS, top=3, templates=("{} far away",)
    )
    assert {each.label: each.probability for each in prompted.labels} != found


def test_other_labels_are_other_work(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 1.0, 0)
    values = {"model": folder / "clap", "labels": LABELS}
    first, again, other, prompted = (
        auriscope.classify(tmp_path / "a.wav", tmp_path / "out", **(values | changes))[0]
        for changes in ({}, {}, {"labels": LABELS[:2]}, {"labels": LABELS[:2], "templates": ("{}",)})
    )
    assert [result.resumed for result in (first, again, other, prompted)] == [False, True, False, False]
    assert {each.label for each in other.labels} == set(LABELS[:2])
    record = json.loads((tmp_path / "out" / "a" / "classify.json").read_text(encoding="utf-8"))
    assert record["settings"]["labels"] == list(LABELS[:2])


def test_labels_and_models_that_do_not_go_together(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 1.0, 0)
    for values, reason in (
        ({"model": folder / "clap"}, "name them with --labels"),
        ({"model": folder / "cnn", "labels": LABELS}, "has classes of its own"),
        ({"model": folder / "cnn", "templates": ("{}",)}, "name the classes with --labels"),
        ({"model": folder / "clap", "labels": ("one",)}, "there is only 'one'"),
        ({"model": folder / "clap", "labels": LABELS, "templates": ("a sound",)}, r"must hold \{\} once"),
    ):
        with pytest.raises(AuriscopeError, match=reason):
            auriscope.classify(tmp_path / "a.wav", **values)


def test_the_command(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 1.0, 0)
    line = ["classify", str(tmp_path / "a.wav"), "--model", str(folder / "clap")]
    outcome = CliRunner().invoke(app, [*line, "--labels", "rain, a crying baby", "--templates", "ensemble", "--json"])
    assert outcome.exit_code == 0
    told = json.loads(outcome.stdout)
    assert {each["label"] for each in told["labels"]} == {"rain", "a crying baby"}
    assert sum(each["probability"] for each in told["labels"]) == pytest.approx(1.0, abs=1e-5)
    outcome = CliRunner().invoke(app, [*line, "--labels", "rain"])
    assert outcome.exit_code == 1
    assert outcome.stdout == ""


def test_a_set_is_told_by_the_names_of_its_classes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURISCOPE_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path / "cache"))
    names = ("hihat", "kick", "pool_table", "tom")
    entries = []
    for number in range(12):
        write(tmp_path / "corpora" / "sound_effects" / f"{number}.wav", 0.5, number)
        entries.append(Entry(f"{number}.wav", "test", 0.5, label=names[number % 4]))
    write_manifest(tmp_path / "corpora" / "sound_effects" / "manifest.csv", entries)
    result = evaluate(str(folder / "clap"), "sound-effects")
    assert result.num_mixtures == 12
    labels = ("hihat", "hyper_reality", "kick", "pool_table", "snare", "tom")
    classifier = ZeroShotClassifier(load(folder / "clap"), labels, TEMPLATES, PHRASES)  # type: ignore[arg-type]
    right = []
    for number in range(12):
        waveform, _ = soundfile.read(tmp_path / "corpora" / "sound_effects" / f"{number}.wav", dtype="float32")
        found = int(classifier.predict_proba(torch.from_numpy(waveform)[None]).argmax())
        right.append(labels[found] == names[number % 4])
    assert result.figures["accuracy_percent"].value == pytest.approx(100 * np.mean(right))
    mixed = evaluate(str(folder / "clap"), "sound-effects-mixtures")
    assert set(mixed.figures) == {"accuracy_percent", "mean_average_precision_percent"}
    with pytest.raises(AuriscopeError, match="has no folds"):
        evaluate(str(folder / "clap"), "sound-effects", fold=0)
    with pytest.raises(AuriscopeError, match="for models of sounds and texts only"):
        evaluate(str(folder / "cnn"), "sound-effects", templates=("{}",))


def test_every_fold_of_a_prepared_corpus(folder: Path, tmp_path: Path) -> None:
    sounds = []
    for number in range(9):
        write(tmp_path / f"{number}.wav", 0.5, number)
        label, fold = ("rain", "dog")[number % 2], 1 + number % 3
        split = {2: "valid", 3: "test"}.get(fold, "train")
        sounds.append(PreparedSound(f"{number}.wav", split, label, str(number), RATE // 2, RATE, fold))
    write_labelled(PreparedSounds("esc50", "10", tmp_path, ("rain", "dog"), tuple(sounds)), tmp_path / "esc50")
    model, name = str(folder / "clap"), str(tmp_path / "esc50")
    each = [evaluate(model, name, fold=fold).figures["accuracy_percent"].value for fold in (1, 2, 3)]
    whole = evaluate(model, name, fold=0)
    assert whole.num_mixtures == 9
    assert [whole.figures[f"accuracy_fold_{fold}_percent"].value for fold in (1, 2, 3)] == each
    assert whole.figures["accuracy_percent"].value == pytest.approx(np.mean(each))
    # Without a fold, the test split is as the corpus has it.
    assert evaluate(model, name).figures["accuracy_percent"].value == each[2]
