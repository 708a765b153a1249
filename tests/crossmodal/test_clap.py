"""CLAP: its encoders, its heads, and its training on a few sounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from auriscope.classification import CNN
from auriscope.crossmodal import CLAP, AudioConfig, CLAPConfig, TextConfig
from auriscope.crossmodal.audio import LogMels
from auriscope.crossmodal.heads import ResidualHead
from auriscope.crossmodal.task import CLAPOptions, CLAPTask, build, caption_ranks, make_model, read_as, untrained
from auriscope.crossmodal.windows import fill_up
from auriscope.data.captioned import CaptionedConfig, CaptionedSet, filled
from auriscope.data.labelled_sets import LEFT_OUT
from auriscope.data.prepared_captioned import PreparedCaptioned, PreparedCaptions, write_captioned
from auriscope.errors import RecipeError
from auriscope.nn.htsat import HTSATConfig
from auriscope.training.recipe import ModelRecipe, Recipe, parse, read_recipe

RECIPES = Path(__file__).parents[2] / "recipes" / "crossmodal"
RATE = 8000
SAID = {
    "train": ("rain on a roof", "a dog", "an engine", "a bell"),
    "valid": ("the rain", "dog barking", "engine", "bell"),
    "test": ("rain", "dog", "engine", "bell"),
}


def tiny(seed: int = 0, **changes: Any) -> CLAP:
    torch.manual_seed(seed)
    return CLAP(CLAPConfig(**{**CLAP.Tiny, **changes}))


def test_the_head_is_a_residual_of_two_maps() -> None:
    torch.manual_seed(0)
    head, x = ResidualHead(5, 4, dropout=0.5).eval(), torch.randn(3, 5)
    first = x @ head.first.weight.T
    total = first + torch.nn.functional.gelu(first) @ head.second.weight.T
    expected = (total - total.mean(1, keepdim=True)) / (total.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(head(x), expected)


def test_peak_level_knows_no_loudness() -> None:
    front = LogMels(AudioConfig(num_mels=16), 16_000)
    waveform = 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    loud, soft = front(waveform)[0], front(0.1 * waveform)[0]
    assert loud.max() == 1.0
    assert loud.min() >= 0.0
    torch.testing.assert_close(loud, soft, rtol=0.0, atol=1e-4)
    assert not front(torch.zeros(1, 8000))[0].any()


def test_embeddings_are_of_unit_length_and_the_scale_is_bounded() -> None:
    model = tiny().eval()
    audio, text = model.embed_audio(torch.randn(2, 8000)), model.embed_text(["a dog", "Rain!", "zebra"])
    assert audio.shape == (2, 12)
    assert text.shape == (3, 12)
    for embedding in (audio, text):
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(len(embedding)))
    assert model.logit_scale.item() == pytest.approx(1 / 0.07, rel=1e-6)
    model.log_scale.data.fill_(9.0)
    assert model.logit_scale.item() == 100.0


@pytest.mark.parametrize("fill", ["repeat", "repeat_whole", "zeros"])
@pytest.mark.parametrize("time", [1, 3, 7, 9])
def test_training_fills_up_as_recordings_are_heard(fill: Any, time: int) -> None:
    waveform = torch.arange(1.0, time + 1)
    heard = fill_up(waveform[None], torch.tensor([time]), 7, fill)[0]
    assert filled(waveform.numpy(), 7, fill).tolist() == heard.tolist()


def test_cnn14_hears_too() -> None:
    model = tiny(audio_encoder="cnn14", audio=AudioConfig(num_mels=16, channels=(4, 6, 8))).eval()
    waveform = torch.randn(2, 9000)
    together = model.embed_audio(waveform, torch.tensor([9000, 6000]))
    torch.testing.assert_close(together[1:], model.embed_audio(waveform[1:, :6000]), rtol=1e-5, atol=1e-5)


def test_hts_at_hears_too() -> None:
    network = HTSATConfig(
        num_mels=16, image_size=32, patch_size=4, dim=4, num_layers=(1, 1), num_heads=(1, 2), window_size=4
    )
    model = tiny(audio_encoder="htsat", audio=AudioConfig(num_mels=16, htsat=network, level="decibels")).eval()
    waveform = torch.randn(2, 9000)
    together = model.embed_audio(waveform, torch.tensor([9000, 6000]))
    torch.testing.assert_close(together[1:], model.embed_audio(waveform[1:, :6000]), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="hear it in windows"):
        model.embed_audio(torch.randn(1, 16_000))
    with pytest.raises(ValueError, match=r"audio\.num_mels is 16 and audio\.htsat\.num_mels 64"):
        tiny(audio_encoder="htsat")


@pytest.mark.parametrize("values", [{"fill": "loop"}, {"window_seconds": 0.0}, {"head_dropout": 1.0}, {"dim": 0}])
def test_values_that_make_no_sense(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|fill"):
        CLAPConfig(**values)


def test_captions_that_are_read_alike_have_one_number() -> None:
    numbers = read_as(tiny(), ["A dog.", "dog", "the dog barks", "rain"]).tolist()
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 3


def test_who_puts_everything_in_one_place_finds_nothing(corpus: Path) -> None:
    model, sounds = tiny().eval(), CaptionedSet(str(corpus), "train", sample_rate=RATE)
    for value in (0.0, float("nan")):
        for parameter in (*model.audio_head.parameters(), *model.text_head.parameters()):
            parameter.data.fill_(value)
        ranks = caption_ranks(model, sounds)
        assert ranks["reciprocal_rank"].tolist() == [1 / len(sounds.texts())] * len(sounds)
        assert ranks["recall_at_1_percent"].sum() == 0


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Four kinds of hums in three splits, each kind with a caption of its own words."""
    sounds = []
    for split, captions in SAID.items():
        for kind, caption in enumerate(captions):
            path = f"{split}{kind}.wav"
            moments = np.arange(RATE // 2 + 40 * len(split)) / RATE
            hum = 0.3 * np.sin(2 * np.pi * 150.0 * 2.3**kind * moments)
            soundfile.write(tmp_path / path, hum, RATE)
            sounds.append(PreparedCaptions(path, split, (caption,), path, len(moments), RATE))
    write_captioned(PreparedCaptioned("hums", "all", tmp_path, tuple(sounds)), tmp_path / "out")
    return tmp_path / "out"


def recipe(corpus: Path, **options: Any) -> Recipe:
    config = {
        "sample_rate": RATE,
        "window_seconds": 0.5,
        "dim": 12,
        "audio": {"num_mels": 16, "stem_channels": 4, "channels": [8, 12], "strides": [2, 2], "dropout": 0.0},
        "text": {"num_buckets": 64, "dim": 12, "num_heads": 2, "hidden_size": 16, "dropout": 0.0},
        "head_dropout": 0.0,
    }
    return Recipe(
        "crossmodal",
        ModelRecipe("crossmodal/clap", config),
        data={"sets": [], "prepared": [str(corpus)], "batch_size": 4},
        validation={"set": str(corpus), "classes": None},
        task_options={"num_mel_masks": 1, "max_mel_width": 2, "chunk_size": 2, **options},
    )


def test_a_few_sounds_are_learnt_and_found_again(corpus: Path) -> None:
    task, batches, (valid,) = build(recipe(corpus))
    assert isinstance(task, CLAPTask)
    assert task.higher_is_better
    before = task.eval()(batches.batch(0), "main")["loss"].item()
    optimizer = torch.optim.Adam(task.parameters(), 1e-2)
    task.train()
    # What is blanked is drawn from torch's own numbers.
    torch.manual_seed(0)
    for index in range(80):
        optimizer.zero_grad()
        task(batches.batch(index), "main")["loss"].backward()
        optimizer.step()
    after = task.eval()(batches.batch(0), "main")
    assert after["loss"].item() < before - 0.7
    assert after["accuracy"] == 1.0
    # The first window of each, among all captions of the split.
    assert len(valid["id"]) == 4
    figures = task.evaluate(valid)
    assert figures["reciprocal_rank"].mean() > 0.8
    assert set(figures) == {"reciprocal_rank", *(f"recall_at_{most}_percent" for most in (1, 5, 10))}


def test_the_rank_of_a_caption_is_counted_by_hand(corpus: Path) -> None:
    model = make_model(recipe(corpus), CLAPOptions(), []).eval()
    sounds = CaptionedSet(str(corpus), "test", sample_rate=RATE)
    ranks = (1.0 / caption_ranks(model, sounds)["reciprocal_rank"]).round().int().tolist()
    for sound, rank in zip(sounds, ranks, strict=True):
        waveform = torch.from_numpy(sound.waveform)[: RATE // 2]
        waveform = torch.cat((waveform, waveform))[: RATE // 2]
        with torch.no_grad():
            scores = (model.embed_text(sounds.texts()) @ model.embed_audio(waveform[None])[0]).tolist()
        order = sorted(sounds.texts(), key=lambda text: -scores[sounds.texts().index(text)])
        assert order.index(sound.captions[0]) + 1 == rank


def test_what_a_training_begins_with(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text(
        "dog 1.0 0.2 0.3\nrain 0.1 2.0 0.3\nuncommon -1.0 0.1 -0.7\ntin -0.2 -0.3 -1.0\n"
    )
    options = CLAPOptions(words_from=str(tmp_path / "glove.txt"), num_words=1, word_dim=0)
    model = make_model(recipe(corpus), options, ["a tin can"])
    # The most frequent, a word of sounds, and one of the captions.
    assert model.config.text.words == ("dog", "rain", "tin")
    torch.testing.assert_close(model.text.vectors[2], torch.tensor([0.1, 2.0, 0.3]) / 4.1**0.5)
    # The model of a finished run is made with the same words, those of its captions among them.
    found = recipe(corpus, words_from=str(tmp_path / "glove.txt"), num_words=1, word_dim=0, audio_from="gone")
    assert untrained(found).config.text.words == ("dog", "rain")
    model.save_pretrained(tmp_path / "first")
    again = make_model(recipe(corpus), CLAPOptions(words_from=str(tmp_path / "first")), [])
    assert again.config.text.words == model.config.text.words
    assert torch.equal(again.text.vectors[1:], model.text.vectors[1:])
    # The audio encoder of a classifier of the same size.
    torch.manual_seed(3)
    classifier = CNN.from_config({"num_mels": 16, "stem_channels": 4, "channels": (8, 12), "strides": (2, 2)})
    classifier.save_pretrained(tmp_path / "classifier")
    begun = make_model(recipe(corpus), CLAPOptions(audio_from=str(tmp_path / "classifier")), [])
    assert torch.equal(begun.audio.trunk.stages[1].enter.conv.weight, classifier.trunk.stages[1].enter.conv.weight)
    larger = recipe(corpus)
    larger.model.config["audio"] = {**larger.model.config["audio"], "channels": [8, 16]}
    with pytest.raises(RecipeError, match="do not fit the audio encoder"):
        make_model(larger, CLAPOptions(audio_from=str(tmp_path / "classifier")), [])
    with pytest.raises(RecipeError, match=r"nowhere\.json is not there; bring a file of GloVe's vectors"):
        make_model(recipe(corpus), CLAPOptions(words_from="nowhere.json"), [])
    with pytest.raises(RecipeError, match="is no crossmodal/clap with words"):
        make_model(recipe(corpus), CLAPOptions(words_from=str(tmp_path / "classifier")), [])


def test_what_does_not_fit_together_is_said(corpus: Path) -> None:
    wrong = recipe(corpus)
    wrong.data["window_seconds"] = 3.0
    with pytest.raises(RecipeError, match=r"data\.window_seconds is 3\.0, the model's 0\.5: leave it out of data"):
        build(wrong)
    with pytest.raises(RecipeError, match="classification/cnn is not crossmodal/clap"):
        build(Recipe("crossmodal", ModelRecipe("classification/cnn"), data={"sets": ["sound-captions"]}))
    with pytest.raises(RecipeError, match=r"validation\.classes: name a set of classes"):
        build(recipe(corpus, select_by="accuracy_percent"))
    with pytest.raises(RecipeError, match="must not be negative"):
        build(recipe(corpus, chunk_size=-1))


@pytest.mark.parametrize("name", ["clap-mini", "clap-left-out", "clap-clotho", "clap-audiocaps"])
def test_a_recipe_is_valid(name: str) -> None:
    found = read_recipe(RECIPES / f"{name}.yaml")
    config = parse(CLAPConfig, found.model.config, "model.config")
    options = parse(CLAPOptions, found.task_options, "task_options")
    data = parse(CaptionedConfig, found.data, "data")
    assert data.leave_out == (LEFT_OUT if name == "clap-left-out" else ())
    if config.text_encoder == "bert":
        assert options.text_from is not None
        assert config.audio_encoder == "cnn14"
        assert data.prepared == (f"manifests/{name.removeprefix('clap-')}",)
        return
    # Of our own size: one that learns on two cores, and can be shipped.
    model = CLAP(config)
    assert sum(parameter.numel() for parameter in model.audio.parameters()) <= 1.2e6
    assert config.text == TextConfig()
