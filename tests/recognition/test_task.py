from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auriscope.errors import RecipeError
from auriscope.recognition.conformer import ConformerCTC
from auriscope.recognition.greedy import greedy_ctc, transcripts
from auriscope.recognition.task import RecognitionOptions, RecognitionTask, build
from auriscope.training.recipe import read_recipe


def tiny() -> ConformerCTC:
    torch.manual_seed(0)
    return ConformerCTC.from_config(ConformerCTC.Tiny)


def speech(batch: int = 2, seconds: float = 1.5) -> torch.Tensor:
    return 0.1 * torch.randn(batch, int(16_000 * seconds), generator=torch.Generator().manual_seed(1))


def batch() -> dict[str, object]:
    return {
        "waveform": speech(),
        "lengths": torch.tensor([24_000, 16_000]),
        "text": ["GOOD DAY", "NO"],
        "id": ["a", "b"],
    }


def test_greedy_reading_merges_repeats_between_blanks() -> None:
    path = torch.tensor([[2, 2, 0, 2, 3, 3, 1], [0, 0, 2, 3, 3, 2, 2]])
    logits = torch.nn.functional.one_hot(path, 4).float()
    assert greedy_ctc(logits, torch.tensor([7, 5]), 0) == [[2, 2, 3, 1], [2, 3]]


def test_training_blanks_features_and_evaluation_does_not() -> None:
    task = RecognitionTask(tiny(), RecognitionOptions(num_time_masks=2, max_time_width=60))
    task.train()
    assert task(batch(), "main")["loss"] != task(batch(), "main")["loss"]
    task.eval()
    assert task(batch(), "main")["loss"] == task(batch(), "main")["loss"]


def test_the_loss_is_ctc_per_token() -> None:
    task = RecognitionTask(tiny()).eval()
    losses = task(batch(), "main")
    model = task.model
    encoded = model.encode(batch()["waveform"], batch()["lengths"])
    log_probs = model.ctc_logits(encoded).log_softmax(-1)
    each = []
    for row, text in enumerate(["GOOD DAY", "NO"]):
        tokens = torch.tensor([model.tokenizer.encode(text)])
        frames = encoded.frame_lengths[row : row + 1]
        value = torch.nn.functional.ctc_loss(
            log_probs[row, : int(frames)].unsqueeze(1), tokens, frames, torch.tensor([tokens.shape[1]]), reduction="sum"
        )
        each.append(value / tokens.shape[1])
    torch.testing.assert_close(losses["loss"], torch.stack(each).mean())


def test_errors_are_counted_per_utterance() -> None:
    task = RecognitionTask(tiny()).eval()
    found = transcripts(task.model, batch()["waveform"], batch()["lengths"])
    said = dict(batch(), text=[found[0] or "A", "NO"])
    values = task.evaluate(said)
    assert values["character_error"].shape == values["word_error"].shape == (2,)
    assert values["character_error"][0].item() == (0.0 if found[0] else 1.0)


def test_a_recipe_that_does_not_transcribe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("task: recognition\nmodel: {architecture: separation/convtasnet}\n")
    with pytest.raises(RecipeError, match="separation/convtasnet does not transcribe"):
        build(read_recipe(path))
