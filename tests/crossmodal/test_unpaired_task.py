"""Training with a teacher's soft targets: what is learnt, what is frozen, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from auriscope.crossmodal import CLAP
from auriscope.crossmodal.task import CLAPOptions, CLAPTask, build
from auriscope.crossmodal.unpaired import soft_clap_loss
from auriscope.data.prepared_captioned import PreparedCaptioned, PreparedCaptions, write_captioned
from auriscope.errors import RecipeError
from auriscope.pretrained import load
from auriscope.training.recipe import Recipe, read_recipe

CAPTIONS = ["rain", "a dog", "rain", "a door"]
RECIPES = Path(__file__).parents[2] / "recipes" / "crossmodal"
STUDENTS = ("sl", "du", "ds", "ads", "du-sl", "ds-sl", "ads-sl")


def clap(seed: int, **changes: Any) -> CLAP:
    torch.manual_seed(seed)
    return CLAP(CLAP.Config(**{**CLAP.Tiny, "head_dropout": 0.0, **changes}))


def batch() -> dict[str, Any]:
    torch.manual_seed(9)
    return {"waveform": 0.1 * torch.randn(4, 16_000), "lengths": torch.full((4,), 16_000), "captions": CAPTIONS}


@pytest.mark.parametrize("normalised", [False, True])
def test_the_loss_is_that_of_the_embeddings_of_both(normalised: bool) -> None:
    student, teacher = clap(0), clap(1)
    options = CLAPOptions(beta=0.4, normalised=normalised)
    found = CLAPTask(student, options, teacher).eval()(batch(), "main")["loss"]
    given = batch()
    heard, read = teacher.embed_audio(given["waveform"]), teacher.embed_text(CAPTIONS)
    audio, text = student.embed_audio(given["waveform"]), student.embed_text(CAPTIONS)
    expected = soft_clap_loss(audio, text, student.logit_scale, heard, read, beta=0.4, normalised=normalised)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    assert not teacher.training


def test_without_a_share_of_the_teacher_it_is_the_papers_clap() -> None:
    options = CLAPOptions(beta=0.0, same_captions="wrong")
    soft = CLAPTask(clap(0), options, clap(1)).eval()(batch(), "main")["loss"]
    hard = CLAPTask(clap(0), options).eval()(batch(), "main")["loss"]
    assert soft.item() == pytest.approx(hard.item(), abs=1e-6)


def test_the_teacher_is_frozen_and_no_part_of_the_checkpoint() -> None:
    student, teacher = clap(0), clap(1)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    task = CLAPTask(student, CLAPOptions(), teacher)
    assert set(task.state_dict()) == {f"model.{name}" for name in student.state_dict()}
    optimizer = torch.optim.Adam(task.phases()["main"], 1e-2)
    losses = []
    for _ in range(12):
        loss = task(batch(), "main")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """The small recipe with a tiny model, and a few sounds of its own."""
    sounds = []
    for split in ("train", "valid"):
        for number in range(4):
            path = f"{split}{number}.wav"
            noise = 0.1 * np.random.default_rng(number).standard_normal(8_000)
            soundfile.write(tmp_path / path, noise, 16_000)
            sounds.append(PreparedCaptions(path, split, (CAPTIONS[number],), path, 8_000, 16_000))
    write_captioned(PreparedCaptioned("own", "own", tmp_path, tuple(sounds)), tmp_path / "own")
    plain = read_recipe(RECIPES / "sl-mini.yaml")
    clap(3).save_pretrained(tmp_path / "teacher")
    place = str(tmp_path / "own")

    def made(**options: Any) -> Recipe:
        return dataclasses.replace(
            plain,
            model=dataclasses.replace(plain.model, config={**dataclasses.asdict(clap(0).config), "head_dropout": 0.0}),
            init_from=str(tmp_path / "teacher"),
            data={"sets": [], "prepared": [place], "batch_size": 4},
            validation={"set": place, "classes": None},
            task_options={"teacher": str(tmp_path / "teacher"), **options},
        )

    return made


def test_a_recipe_with_a_teacher_begins_as_it(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    task, batches, _ = build(recipe())
    teacher = load(tmp_path / "teacher")
    assert all(torch.equal(value, task.model.state_dict()[name]) for name, value in teacher.state_dict().items())
    with torch.no_grad():
        assert torch.isfinite(task(batches.batch(0), "main")["loss"])
    for change, reason in (
        ({"sample_rate": 8_000}, "sample_rate is 8000"),
        ({"window_seconds": 2.0}, "window_seconds"),
    ):
        clap(4, **change).save_pretrained(tmp_path / "other")
        with pytest.raises(RecipeError, match=reason):
            build(recipe(teacher=str(tmp_path / "other")))
    with pytest.raises(RecipeError, match=r"task_options\.teacher"):
        build(recipe(teacher=str(tmp_path / "nowhere")))
    with pytest.raises(RecipeError, match="beta must lie"):
        build(recipe(beta=1.5))


@pytest.mark.parametrize("name", STUDENTS)
def test_the_students_differ_from_their_teacher_as_the_paper_says(name: str) -> None:
    student, teacher = read_recipe(RECIPES / f"{name}-mini.yaml"), read_recipe(RECIPES / "teacher-mini.yaml")
    assert student.init_from == "runs/teacher-mini/model"
    assert student.model == teacher.model
    assert student.validation == teacher.validation
    curated = name.removesuffix("-sl")
    pairs = () if name == "sl" else (f"manifests/{curated}",)
    assert tuple(student.data.get("curated", ())) == pairs
    assert student.data["sets"] == teacher.data["sets"] == ["sound-captions-half"]
    assert student.task_options.get("teacher") == ("runs/teacher-mini/model" if "sl" in name else None)
    # Weights are never chosen by the classes that the table is about.
    assert student.validation["classes"] is None
    assert student.task_options["select_by"] == "reciprocal_rank"
