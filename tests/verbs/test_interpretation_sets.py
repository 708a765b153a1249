"""Interpreters measured on sets by evaluate, and what they are shown."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from auriscope.classification import CNN, ImageCNN
from auriscope.errors import AuriscopeError
from auriscope.interpretation import METHODS
from auriscope.interpretation.interpreter import facts
from auriscope.verbs.evaluate import evaluate
from auriscope.verbs.interpretation_sets import MAX_SECONDS, Examples

EFFECTS = ("hihat", "hyper_reality", "kick", "pool_table", "snare", "tom")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def corpora(tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two kits of six drums, each a tone of its own and one of them long, and twenty pictures."""
    root = tmp_path / "corpora"
    trees.build_labelled(root, 2, lambda number, kit: 6 * 16_000 if (number, kit) == (0, 0) else 8000 + 1000 * kit)
    monkeypatch.setenv("AURISCOPE_CORPORA", str(root))
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path / "cache"))
    return root


def sounds() -> CNN:
    torch.manual_seed(0)
    # In another order than the set's: the classes are known by their names.
    return CNN.from_config({**CNN.Tiny, "labels": tuple(reversed(EFFECTS))}).eval()


def pictures() -> ImageCNN:
    torch.manual_seed(0)
    return ImageCNN.from_config({"stage_channels": (4, 8), "strides": (2, 2)}).eval()


def interpreter(kind: str, classifier: Any, address: Path, folder: Path) -> str:
    cls: Any = METHODS[kind]
    classifier.save_pretrained(address)
    torch.manual_seed(0)
    model = cls.from_config({**facts(classifier, cls.Config), "classifier": str(address)})
    model.save_pretrained(folder)
    return str(folder)


def test_sounds_are_cut_and_spread(corpora: Path) -> None:
    examples = list(Examples(sounds(), "sound-effects")())
    assert len(examples) == 12
    assert max(example.input.shape[1] for example in examples) == round(MAX_SECONDS * 16_000)
    few = list(Examples(sounds(), "sound-effects", items=4)())
    assert [example.ids for example in few] == [examples[place].ids for place in (0, 3, 6, 9)]
    assert all(example.sources is None and example.label is None for example in examples)


def test_mixtures_of_sounds_have_their_sources_and_the_classes_of_the_classifier(corpora: Path) -> None:
    classifier = sounds()
    for asked in (False, True):
        found = list(Examples(classifier, "sound-effects-mixtures", asked=asked, level_db=5.0)())
        assert len(found) == 12
        for example in found:
            assert example.sources is not None
            assert example.source_labels is not None
            torch.testing.assert_close(example.sources.sum(1), example.input)
            first, second = example.ids[0].split("+")
            names = [classifier.labels[number] for number in example.source_labels[0].tolist()]
            assert names[0] in first
            assert names[1] in second
            assert (example.label is not None) == asked
            if example.label is not None:
                assert example.label.tolist() == example.source_labels[:, 0].tolist()


def test_images_and_their_mixtures(corpora: Path) -> None:
    examples = list(Examples(pictures(), "mnist", items=5)())
    assert sum(len(example.ids) for example in examples) == 5
    mixed = Examples(pictures(), "two-digits", shift=0.5)
    assert len(mixed) == 20
    (example,) = mixed()
    assert example.sources is not None
    assert example.source_labels is not None
    assert example.input.shape == (20, 1, 28, 28)
    assert (example.source_labels >= 0).all()
    with pytest.raises(AuriscopeError, match="which the model does not know"):
        list(Examples(ImageCNN.from_config({"labels": ("a", "b")}), "mnist")())


@pytest.mark.parametrize("kind", ["lmac", "vibi"])
def test_evaluate_measures_interpreters_of_sounds(corpora: Path, tmp_path: Path, kind: str) -> None:
    address = interpreter(kind, sounds(), tmp_path / "cnn", tmp_path / kind)
    done: list[float] = []
    result = evaluate(address, "sound-effects-mixtures", on_progress=done.append)
    assert result.num_mixtures == 12
    assert {"input_fidelity_percent", "faithfulness", "fid", "si_snri_db", "merit_percent"} <= set(result.figures)
    assert result.figures["decided_share_percent"].value == 100.0
    fidelity, faith = result.figures["input_fidelity_percent"], result.figures["faithfulness"]
    assert fidelity.value is not None
    assert faith.value is not None
    assert result.figures["merit_percent"].value == pytest.approx((fidelity.value + 100 * faith.value) / 2)
    assert done[-1] == 1.0
    json.dumps({name: figure.value for name, figure in result.figures.items()}, allow_nan=False)


def test_evaluate_measures_interpreters_of_images(corpora: Path, tmp_path: Path) -> None:
    address = interpreter("lmac", pictures(), tmp_path / "image-cnn", tmp_path / "lmac")
    result = evaluate(address, "mnist")
    assert result.num_mixtures == 20
    assert "si_snri_db" not in result.figures
    with pytest.raises(AuriscopeError, match="folds are for classifiers only"):
        evaluate(address, "mnist", fold=1)


def test_the_tables_are_measured_once(
    corpora: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = interpreter("lmac", pictures(), tmp_path / "image-cnn", tmp_path / "lmac")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("images_table", ROOT / "benchmarks" / "interpretation_images.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "CASES", {"mnist": {"two-digits": ("MNIST B1 (case 1)",)}})
    monkeypatch.setattr(script, "SHIFTS", (0.0,))
    command = ["table", "--set", "mnist", "--classifier", str(tmp_path / "image-cnn"), "--interpreter", address]
    command += ["--method", "lmac", "--method", "grad-cam", "--out", str(tmp_path / "cells"), "--items", "6"]
    monkeypatch.setattr("sys.argv", command)
    script.main()
    first = capsys.readouterr()
    rows = [line for line in first.out.splitlines() if line.startswith(("| lmac", "| grad-cam"))]
    assert len(rows) == 6, "both methods: clean, what is decided of mixtures, and what is asked"
    for row in rows[:2]:
        assert "–" not in row.split(" | ")[1:-1], "every figure is there; nothing is published of these"
    assert len(list((tmp_path / "cells").iterdir())) == 6
    script.main()
    again = capsys.readouterr()
    assert again.out == first.out
    assert " s\n" in first.err
    assert " s\n" not in again.err
