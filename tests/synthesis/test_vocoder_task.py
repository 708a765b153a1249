"""Training a vocoder against listeners: the losses, the two phases, and a run that is continued."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from auriscope.data.segments import SegmentBatches, SegmentConfig
from auriscope.errors import RecipeError
from auriscope.signal.vocoding import speech_mel
from auriscope.synthesis import HiFiGAN, vocoder_task
from auriscope.synthesis.discriminators import Discriminators, deceiving_loss, feature_loss, listening_loss
from auriscope.synthesis.vocoder_task import DiscriminatorOptions, VocoderOptions, VocoderTask
from auriscope.training.checkpoints import BEST, LAST, load_tree
from auriscope.training.config import TrainingConfig
from auriscope.training.loop import fit
from auriscope.training.recipe import ModelRecipe, Recipe

SMALL = DiscriminatorOptions(
    periods=(2, 3), period_channels=(4, 8, 8), num_scales=2, scale_channels=(4, 4, 4, 8, 8, 8, 8)
)


def _task(**options: Any) -> VocoderTask:
    torch.manual_seed(0)
    model = HiFiGAN.from_config(HiFiGAN.Tiny)
    return VocoderTask(model, VocoderOptions(segment_frames=40, discriminators=SMALL, **options))


def _batch(task: VocoderTask, rows: int = 2, seed: int = 0) -> dict[str, Tensor]:
    time = (40 + 2 * task.margin_frames) * 16
    generator = torch.Generator().manual_seed(seed)
    pitch = 0.05 + 0.1 * torch.rand(rows, 1, generator=generator)
    waveform = 0.3 * torch.sin(pitch * torch.arange(time)) + 0.02 * torch.randn(rows, time, generator=generator)
    return {"waveform": waveform, "lengths": torch.full((rows,), time)}


def _differing(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two trees of tensors and values differ; the clock may."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = (left.keys() | right.keys()) - {"seconds"}
        return [found for key in keys for found in _differing(left.get(key), right.get(key), f"{path}/{key}")]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        return [found for place, pair in pairs for found in _differing(*pair, f"{path}/{place}")]
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return [] if torch.equal(left, right) else [path]
    return [] if left == right else [path]


def test_the_listeners_are_the_papers() -> None:
    with torch.device("meta"):
        listeners = Discriminators()
    size = sum(parameter.numel() for parameter in listeners.parameters())
    # SpeechBrain's, of the paper's sizes, have as many.
    assert round(size / 1e6, 1) == 70.7
    scores = Discriminators(**dataclasses.asdict(SMALL))(torch.randn(3, 1000))
    assert len(scores) == 4
    assert [len(heard) for _, heard in scores] == [4, 4, 8, 8]
    assert all(score.shape[0] == 3 for score, _ in scores)


def test_losses_are_the_papers() -> None:
    recorded = [(torch.tensor([[1.0, 0.5]]), [torch.ones(1, 2, 3)]), (torch.tensor([[0.0]]), [torch.zeros(1, 1, 4)])]
    made = [(torch.tensor([[0.0, 1.0]]), [torch.zeros(1, 2, 3)]), (torch.tensor([[0.5]]), [torch.full((1, 1, 4), 2.0)])]
    assert listening_loss(recorded, made) == (0.25 / 2 + 1 / 2) + (1.0 + 0.25)
    assert deceiving_loss(made) == 1 / 2 + 0.25
    assert feature_loss(recorded, made) == 1.0 + 2.0


def test_mels_and_waveform_of_a_batch_belong_together() -> None:
    task = _task()
    batch = _batch(task)
    mel, recorded = task.cut(batch)
    assert mel.shape == (2, 40, 8)
    assert recorded.shape == (2, 40 * 16)
    inside = speech_mel(recorded, task.model.config.mel)[:, :-1]
    # Away from its ends the segment has the same mels; at the ends they are those of the recording around it.
    torch.testing.assert_close(mel[:, 2:-2], inside[:, 2:-2], atol=1e-4, rtol=1e-4)
    assert (mel[:, 0] - inside[:, 0]).abs().max() > 1e-2


def test_a_phase_has_gradients_for_its_own_and_the_vocoder_runs_once() -> None:
    task = _task().train()
    calls: list[int] = []
    task.model.register_forward_hook(lambda *_: calls.append(1))
    batch = _batch(task)
    task(batch, "discriminator")["loss"].backward()
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert all(parameter.grad is not None for parameter in task.discriminators.parameters())
    task.discriminators.zero_grad()
    losses = task({**batch}, "generator")
    losses["loss"].backward()
    assert len(calls) == 1
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in task.model.parameters())
    assert all(parameter.grad is None for parameter in task.discriminators.parameters())
    expected = 45 * losses["mel"] + losses["deceiving"] + 2 * losses["features"]
    torch.testing.assert_close(losses["loss"].detach(), expected)
    # What is judged is of the weights of now: a batch is not made of what was made of another.
    task(_batch(task, seed=5), "generator")
    assert len(calls) == 2


def test_the_first_batches_are_learned_from_alone() -> None:
    task = _task(alone_batches=1, more_windows=(32,)).train()
    before = {name: value.clone() for name, value in task.discriminators.state_dict().items()}
    for step in range(2):
        batch = _batch(task)
        listening = task(batch, "discriminator")
        losses = task(batch, "generator")
        assert ("deceiving" in losses) == ("listening" in listening) == (step == 1)
        if step == 0:
            after = task.discriminators.state_dict()
            assert all(torch.equal(after[name], value) for name, value in before.items())


def _recipe(steps: int) -> Recipe:
    config = dict(HiFiGAN.Tiny) | {"mel": dataclasses.asdict(HiFiGAN.Tiny["mel"])}
    return Recipe(
        task="synthesis",
        model=ModelRecipe("synthesis/hifigan", config),
        data={"corpora": ["synthetic"], "batch_size": 2, "level_db": [-6.0, 0.0]},
        validation={"corpora": ["synthetic"], "seconds": 0.1, "batch_size": 2, "num_batches": 2},
        task_options={"segment_frames": 40, "alone_batches": 3, "discriminators": dataclasses.asdict(SMALL)},
        training=TrainingConfig(
            max_steps=steps,
            optimizer="adamw",
            learning_rate=2e-3,
            betas=(0.8, 0.99),
            validate_every_steps=4,
            log_every_steps=2,
            accelerator="cpu",
            average_decay=0.9,
        ),
    )


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path / "cache"))


def _run(recipe: Recipe, folder: Path) -> None:
    torch.manual_seed(0)
    model = HiFiGAN.from_config(HiFiGAN.Tiny)
    fit(*vocoder_task.build(recipe, model), recipe.training, folder)


def test_a_run_in_two_phases_that_is_continued_ends_as_one_that_never_stopped(tmp_path: Path) -> None:
    _run(_recipe(8), tmp_path / "whole")
    _run(_recipe(5), tmp_path / "parts")
    _run(_recipe(8), tmp_path / "parts")
    for name in (LAST, BEST):
        whole, parts = load_tree(tmp_path / "whole" / name), load_tree(tmp_path / "parts" / name)
        assert _differing(whole, parts) == []
    last = load_tree(tmp_path / "whole" / LAST)
    assert int(last["task"]["batches_seen"]) == 8
    assert set(last["optimizers"]) == {"discriminator", "generator"}


def test_training_brings_the_mels_nearer() -> None:
    task = _task(alone_batches=20).train()
    batch = _batch(task)
    before = task.evaluate(batch)["mel_error"].mean()
    phases = {phase: torch.optim.AdamW(parameters, 5e-3, (0.8, 0.99)) for phase, parameters in task.phases().items()}
    for _ in range(60):
        for phase, optimizer in phases.items():
            optimizer.zero_grad()
            task(batch, phase)["loss"].backward()
            optimizer.step()
    error = task.eval().evaluate(batch)["mel_error"]
    assert error.shape == (2,)
    assert error.mean() < 0.5 * before


def test_segments_are_of_the_recordings_and_depend_on_their_number_only() -> None:
    config = SegmentConfig(corpora=("synthetic",), batch_size=3)
    batches, again = (SegmentBatches(config, 4000, seed=7) for _ in range(2))
    first, second = batches.batch(0), batches.batch(1)
    assert first["waveform"].shape == (3, 4000)
    assert first["lengths"].tolist() == [4000] * 3
    assert torch.equal(again.batch(1)["waveform"], second["waveform"])
    assert not torch.equal(first["waveform"], second["waveform"])
    louder = SegmentBatches(dataclasses.replace(config, level_db=(-6.0, -6.0)), 4000, seed=7).batch(0)["waveform"]
    torch.testing.assert_close(louder, first["waveform"] * 10 ** (-6 / 20))
    longer = SegmentBatches(config, 16_000 * 60, seed=7).batch(0)["waveform"]
    assert not longer[:, -1000:].any()
    assert longer.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": {"corpora": ["synthetic"], "sample_rate": 8000}}, "8000 Hz"),
        ({"task_options": {"segment_frames": 0}}, "segment_frames"),
        ({"data": {"batch_size": 0}}, "batch_size"),
        ({"data": {"level_db": [3.0, 0.0]}}, "level_db"),
    ],
)
def test_recipes_that_make_no_sense_are_one_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        vocoder_task.build(dataclasses.replace(_recipe(1), **change), HiFiGAN.from_config(HiFiGAN.Tiny))
