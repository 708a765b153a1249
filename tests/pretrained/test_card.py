from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from auriscope.errors import CheckpointError
from auriscope.pretrained import ModelCard


def test_card_comes_back_from_its_file(card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(card.to_json())
    assert ModelCard.read(tmp_path) == card
    minimal = ModelCard(title="a", summary="b", licence="MIT")
    (tmp_path / "card.json").write_text(minimal.to_json())
    assert ModelCard.read(tmp_path) == minimal


def test_unknown_values_of_a_later_version_are_passed_over(card: ModelCard, tmp_path: Path) -> None:
    values = json.loads(card.to_json()) | {"new_in_2030": [1, 2]}
    (tmp_path / "card.json").write_text(json.dumps(values))
    assert ModelCard.read(tmp_path) == card


def test_rendered_card_says_everything(card: ModelCard) -> None:
    text = card.render({"architecture": "separation/dprnn", "sample rate": "8000 Hz"})
    assert text.startswith("---\nlibrary_name: auriscope\nlicense: cc-by-4.0\n---\n")
    assert "# DPRNN for two talkers | small" in text
    assert "- sample rate: 8000 Hz" in text
    assert "| si_snri_db libri_eval50 test | 8.25 |" in text
    for value in (card.summary, *card.data, *card.attributions, card.command, card.citation, *card.limits):
        assert value in text
    for value in ("12.5 hours", "seed: 3", "](curve.png)"):
        assert value in text


def test_intervals_stand_beside_their_figures(card: ModelCard, tmp_path: Path) -> None:
    name = next(iter(card.metrics))
    told = dataclasses.replace(card, metrics={name: 8.25, "x": 1.0}, intervals={name: (7.5, 9.0)})
    assert told.figure(name) == "8.25 [7.5, 9]"
    assert told.figure("x") == "1"
    text = told.render()
    assert "| what | value [95 % interval] |" in text
    assert f"| {name} | 8.25 [7.5, 9] |" in text
    assert "| x | 1 |" in text
    (tmp_path / "card.json").write_text(told.to_json())
    assert ModelCard.read(tmp_path) == told


@pytest.mark.parametrize(("name", "ends"), [("x", (2.0, 1.0)), ("x", (math.nan, 1.0)), ("y", (0.0, 1.0))])
def test_an_interval_is_of_a_metric_and_finite(card: ModelCard, name: str, ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="two finite ends for one of the metrics"):
        dataclasses.replace(card, metrics={"x": 1.0}, intervals={name: ends})


@pytest.mark.parametrize("value", [math.nan, math.inf, True, None])
def test_a_metric_must_be_a_finite_number(card: ModelCard, value: Any) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        dataclasses.replace(card, metrics={"x": value})


@pytest.mark.parametrize("name", ["title", "summary", "licence"])
def test_what_a_card_needs(card: ModelCard, name: str) -> None:
    with pytest.raises(ValueError, match=f"needs a {name}"):
        dataclasses.replace(card, **{name: " "})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"title": "a", "summary": "b"}', "not a valid model card: licence"),
        ('{"title": "a", "summary": "b", "licence": ""}', "needs a licence"),
        ('{"title": "a", "summary": "b", "licence": "MIT", "metrics": {"x": "y"}}', "metrics.x"),
    ],
)
def test_a_damaged_card_ends_in_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        ModelCard.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_card(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"it has no card\.json"):
        ModelCard.read(tmp_path)
