"""Training a synthesiser: batches, losses, what chooses the weights, and a run that is continued."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from auriscope.data.manifest import Entry, write_manifest
from auriscope.data.synthetic import voice
from auriscope.errors import RecipeError
from auriscope.pretrained import model_class
from auriscope.synthesis import Synthesizer, Tacotron2, TransformerTTS
from auriscope.synthesis.task import SynthesisOptions, SynthesisTask, build, voice_of, writer
from auriscope.synthesis.vocoder_task import VocoderTask
from auriscope.training.checkpoints import BEST, LAST, load_tree
from auriscope.training.config import TrainingConfig
from auriscope.training.loop import fit
from auriscope.training.recipe import ModelRecipe, Recipe

MEL = {"sample_rate": 16_000, "num_mels": 12}


@pytest.fixture(scope="module")
def speaker_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny speaker model with random weights."""
    torch.manual_seed(0)
    kind = model_class("speaker/xvector")
    folder = tmp_path_factory.mktemp("models") / "xvector"
    kind.from_config(kind.Tiny).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny recogniser of letters with random weights."""
    torch.manual_seed(0)
    kind = model_class("recognition/conformer-ctc")
    letters = {"tokens": ("<blank>", "<eos>", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")}
    folder = tmp_path_factory.mktemp("models") / "recognizer"
    kind.from_config(kind.Tiny | letters).save_pretrained(folder)
    return folder


@pytest.fixture
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six short utterances of two synthetic voices to train on, three to choose by."""
    folder = tmp_path / "corpora" / "readings"
    (folder / "audio").mkdir(parents=True)
    entries = []
    for number in range(9):
        seconds = 0.6 + 0.1 * number
        sound = voice(number % 2, number, seconds=seconds, sample_rate=16_000)
        soundfile.write(folder / "audio" / f"{number}.wav", sound, 16_000)
        text = "DR. SMITH" if number == 0 else f"word {number}, said"
        split = "train" if number < 6 else "valid"
        entries.append(Entry(f"audio/{number}.wav", split, seconds, speaker=str(number % 2), text=text))
    write_manifest(folder / "manifest.csv", entries)
    monkeypatch.setenv("AURISCOPE_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def recipe(kind: type[Synthesizer], config: dict[str, Any] | None = None, **more: Any) -> Recipe:
    values = kind.Tiny | {"mel": MEL, "voice_dim": 0} | (config or {})
    data = {"corpora": ["readings"], "batch_seconds": 3.0, "max_seconds": 2.0}
    return Recipe("synthesis", ModelRecipe(kind.name, values), data=data, **more)


def test_a_recipe_gives_texts_in_the_letters_of_the_model(corpora: Path) -> None:
    task, batches, validation = build(recipe(Tacotron2))
    texts = {text for index in range(4) for text in batches.batch(index)["text"]}
    assert texts == {"doctor smith", *(f"word {name}, said" for name in ("one", "two", "three", "four", "five"))}
    assert [text for batch in validation for text in batch["text"]] == [
        f"word {name}, said" for name in ("six", "seven", "eight")
    ]
    losses = task(batches.batch(0), "main")
    assert set(losses) == {"mel", "stop", "guided", "loss"}
    assert losses["loss"].isfinite()


def test_the_guide_leaves(corpora: Path) -> None:
    task, batches, _ = build(recipe(Tacotron2, task_options={"guided_batches": 1}))
    batch = batches.batch(0)
    task.eval()
    assert all("guided" in task(batch, "main") for _ in range(3))
    task.train()
    assert ["guided" in task(batch, "main") for _ in range(3)] == [True, False, False]


def test_the_guide_hears_where_letters_are(corpora: Path, recognizer: Path, speaker_model: Path) -> None:
    task, batches, validation = build(recipe(Tacotron2, task_options={"aligner": str(recognizer)}))
    batch = batches.batch(0)
    assert batch["path"].shape == batch["mel"].shape[:2]
    assert (batch["path"].diff(dim=1)[0, : int(batch["frame_lengths"][0]) - 1] >= 0).all()
    assert "path" not in next(iter(validation))
    guided = task(batch, "main")["guided"]
    assert guided.isfinite()
    batch.pop("path")
    assert guided != task(batch, "main")["guided"]
    with pytest.raises(RecipeError, match="is no recogniser of letters"):
        build(recipe(Tacotron2, task_options={"aligner": str(speaker_model)}))
    with pytest.raises(RecipeError, match="only letters can be aligned"):
        build(recipe(Tacotron2, {"spelling": "phonemes"}, task_options={"aligner": str(recognizer)}))


def test_the_decoder_is_told_where_to_look_in_the_first_batches(corpora: Path, recognizer: Path) -> None:
    options = {"aligner": str(recognizer), "forced_batches": 2}
    task, batches, validation = build(recipe(Tacotron2, task_options=options))
    batch = batches.batch(0)
    found = [float(task(batch, "main")["mel"].detach()) for _ in range(3)]
    assert found[0] == found[1] != found[2]
    # The frames of validation are told as well.
    heard = next(iter(validation))
    told = task.eval().evaluate(heard)["mel_error"]
    heard.pop("path")
    assert not torch.equal(told, task.evaluate(heard)["mel_error"])
    for wrong, kind in (({"forced_batches": 2}, Tacotron2), (options, TransformerTTS)):
        with pytest.raises(RecipeError, match="forced_batches needs an aligner"):
            build(recipe(kind, task_options=wrong))


def test_metrics_are_of_each_utterance(corpora: Path) -> None:
    task, _, validation = build(recipe(TransformerTTS))
    batch = next(iter(validation))
    task.eval()
    with torch.no_grad():
        together = task.evaluate(batch)
        assert {name: value.shape for name, value in together.items()} == dict.fromkeys(
            ("mel_error", "focus", "attention_ok"), (3,)
        )
        tokens, lengths = task.model.batch_texts(batch["text"])
        spoken = task.model(tokens, lengths, batch["mel"], batch["frame_lengths"])
    length = int(batch["frame_lengths"][0])
    apart = (spoken.refined - batch["mel"])[0, :length].abs().mean()
    torch.testing.assert_close(together["mel_error"][0], apart)
    assert set(together["attention_ok"].tolist()) <= {0.0, 1.0}


def test_a_run_that_is_continued_ends_where_it_would_have(corpora: Path) -> None:
    config = TrainingConfig(max_steps=4, validate_every_steps=2, log_every_steps=1, learning_rate=1e-3)
    of = recipe(Tacotron2, {"prenet_dropout": 0.5}, task_options={"guided_batches": 3})

    def run(folder: Path, max_steps: int) -> dict[str, Any]:
        task, batches, validation = build(of)
        fit(task, batches, validation, dataclasses.replace(config, max_steps=max_steps), folder)
        return load_tree(folder / LAST)  # type: ignore[no-any-return]

    whole = run(corpora / "whole", 4)
    run(corpora / "parts", 2)
    continued = run(corpora / "parts", 4)
    for name, tensor in whole["task"].items():
        assert torch.equal(continued["task"][name], tensor), name
    assert (corpora / "parts" / BEST).exists()


def test_voices_come_from_the_speaker_model(corpora: Path, speaker_model: Path) -> None:
    dim = model_class("speaker/xvector").Tiny["dim"]
    config = {"voice_dim": dim, "voice_model": str(speaker_model)}
    task, batches, _ = build(recipe(Tacotron2, config))
    batch = batches.batch(0)
    assert batch["voice"].shape == (len(batch["text"]), dim)
    torch.testing.assert_close(batch["voice"].norm(dim=-1), torch.ones(len(batch["text"])))
    assert task(batch, "main")["loss"].isfinite()
    assert task.evaluate(batch)["mel_error"].isfinite().all()
    embed = voice_of(str(speaker_model), dim, 8_000)
    assert embed is not None
    assert embed(voice(0, 0, seconds=1.0, sample_rate=8_000).astype(np.float32)).shape == (dim,)
    with pytest.raises(RecipeError, match="no voice_model"):
        voice_of("", dim, 16_000)
    with pytest.raises(RecipeError, match=f"no embeddings of {dim + 1} numbers"):
        voice_of(str(speaker_model), dim + 1, 16_000)


def test_what_does_not_fit_is_one_line(corpora: Path) -> None:
    with pytest.raises(RecipeError, match="data is at 8000 Hz, the mels at 16000 Hz"):
        build(dataclasses.replace(recipe(Tacotron2), data={"corpora": ["readings"], "sample_rate": 8_000}))
    with pytest.raises(RecipeError, match="distanc"):
        build(recipe(Tacotron2, task_options={"distanc": "squared"}))


def test_vocoders_have_a_task_of_their_own(corpora: Path) -> None:
    kind = model_class("synthesis/hifigan")
    of = Recipe("synthesis", ModelRecipe("synthesis/hifigan", dict(kind.Tiny)))
    rate = kind.from_config(kind.Tiny).config.mel.sample_rate
    values = {"corpora": ["readings"], "sample_rate": rate, "batch_size": 2}
    made = build(dataclasses.replace(of, data=values, validation={"corpora": ["readings"], "batch_size": 2}))
    assert isinstance(made[0], VocoderTask)


def test_texts_in_capitals_are_no_initials() -> None:
    write = writer(Tacotron2.from_config(Tacotron2.Tiny))
    assert write("THE BBC SAID") == "the bbc said"
    assert write("It cost $5 (maybe)") == "it cost five dollars, maybe,"
    assert write("\u5b57") == ""


def test_the_options_reach_the_loss(corpora: Path) -> None:
    task, batches, _ = build(recipe(Tacotron2))
    batch, model = batches.batch(0), task.model
    losses = {
        distance: SynthesisTask(model, SynthesisOptions(distance=distance, guided_weight=0.0)).eval()(batch, "main")
        for distance in ("squared", "absolute")
    }
    assert losses["squared"]["mel"] != losses["absolute"]["mel"]
    assert "guided" not in losses["squared"]
