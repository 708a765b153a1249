"""Language models: what they are asked, how well they foresee texts, and their training by a recipe."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from auriscope.errors import RecipeError
from auriscope.pretrained import load_pretrained
from auriscope.recognition import RNNLM, TransformerLM
from auriscope.recognition.language_model import LanguageModel, pad_tokens, perplexity
from auriscope.recognition.lm_task import LanguageModelTask
from auriscope.recognition.task import build
from auriscope.training.recipe import read_recipe, train

TEXTS = ["GOOD DAY", "NO", "IT'S FINE", "A"]


@pytest.fixture(params=[RNNLM, TransformerLM], ids=lambda cls: cls.name)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(0)
    made: LanguageModel = request.param.from_config(request.param.Tiny).eval()
    return made


@torch.no_grad()
def test_surprise_is_the_sum_over_steps(model: LanguageModel) -> None:
    tokens, lengths = pad_tokens(model.tokenizer.encode(text) for text in TEXTS)
    assert lengths.tolist() == [len(text) for text in TEXTS]
    surprise = model.surprise(tokens, lengths)
    for row, text in enumerate(TEXTS):
        state, before, total = model.start(1, 1), model.tokenizer.bos_id, 0.0
        for number in [*model.tokenizer.encode(text), model.tokenizer.eos_id]:
            log_probs, state = model.step(torch.tensor([[before]]), state)
            assert float(log_probs.exp().sum()) == pytest.approx(1.0, abs=1e-5)
            total -= float(log_probs[0, 0, number])
            before = number
        assert float(surprise[row].sum()) == pytest.approx(total, rel=1e-4)
        assert not surprise[row, len(text) + 1 :].any()


@torch.no_grad()
def test_a_model_that_knows_nothing_has_the_perplexity_of_its_tokens() -> None:
    model = RNNLM.from_config(RNNLM.Tiny).eval()
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    found = perplexity(model, TEXTS, batch_size=3)
    classes = len(model.tokenizer)
    characters, words = sum(len(text) + 1 for text in TEXTS), sum(len(text.split()) + 1 for text in TEXTS)
    assert found.token_perplexity == pytest.approx(classes)
    assert found.bits_per_character == pytest.approx(math.log2(classes))
    assert found.word_perplexity == pytest.approx(classes ** (characters / words))
    metrics = LanguageModelTask(model).evaluate({"text": TEXTS})
    torch.testing.assert_close(
        metrics["bits_per_character"], torch.full((len(TEXTS),), math.log2(classes), dtype=torch.float64)
    )


RECIPE = """
task: recognition
model:
  architecture: recognition/rnn-lm
  config: {{embedding_size: 8, hidden_size: 16, projection_size: 12}}
data: {{files: ["{path}"], batch_characters: 400, max_characters: 60, valid_share: 0.1}}
training: {{max_steps: 60, learning_rate: 0.02, validate_every_steps: 60}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"THE {noun} OF THE {other}" for noun in "ABCDEFG" for other in "TUVWXYZ"))
    path = tmp_path / "lm.yaml"
    path.write_text(RECIPE.format(path=text))
    return path


def test_a_recipe_trains_one(recipe: Path, tmp_path: Path) -> None:
    result = train(read_recipe(recipe), tmp_path / "run")
    assert result.metrics["bits_per_character"] < 2.0  # five bits are what it begins with
    task, _, valid = build(read_recipe(recipe))
    assert isinstance(task, LanguageModelTask)
    assert sum(len(batch["text"]) for batch in valid) > 0


def test_training_can_be_asked_for_fewer_texts_to_validate_on(recipe: Path) -> None:
    _, _, valid = build(read_recipe(recipe, ["validation.max_items=2", "data.valid_share=0.5"]))
    assert sum(len(batch["text"]) for batch in valid) == 2


def test_options_of_speech_are_refused(recipe: Path) -> None:
    with pytest.raises(RecipeError, match="task_options: language models have none, but there is 'ctc_weight'"):
        build(read_recipe(recipe, ["task_options.ctc_weight=0.5"]))
    with pytest.raises(RecipeError, match="unknown key 'corpra'"):
        build(read_recipe(recipe, ["data.corpra=[libri_251spk]"]))


def test_a_language_model_does_not_transcribe_and_says_what_it_does(model: LanguageModel, tmp_path: Path) -> None:
    assert model.instead == "tells how likely a text is"
    model.save_pretrained(tmp_path / "lm")
    loaded = load_pretrained(tmp_path / "lm")
    assert isinstance(loaded, LanguageModel)
    assert perplexity(loaded, TEXTS) == perplexity(model, TEXTS)
