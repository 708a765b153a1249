from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from auriscope.crossmodal import CLAP, CLAPConfig
from auriscope.crossmodal.clap import Fill
from auriscope.crossmodal.windows import TOGETHER, embed_recording, embed_windows, fill_up, window_frames
from auriscope.crossmodal.zeroshot import ZeroShotClassifier
from auriscope.data.captioned import filled

SIZE = 4000


@pytest.fixture(scope="module")
def model() -> CLAP:
    torch.manual_seed(3)
    return CLAP(CLAPConfig(window_seconds=0.25, **CLAP.Tiny)).eval()


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    return 0.1 * torch.randn(2 * SIZE + 1500, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_windows_follow_each_other_and_the_last_is_filled_up(model: CLAP, waveform: torch.Tensor) -> None:
    assert window_frames(model) == SIZE
    embedding, starts = embed_windows(model, waveform)
    assert starts == [0, SIZE, 2 * SIZE]
    last = waveform[2 * SIZE :].repeat(3)[:SIZE]
    for own, heard in zip(embedding, (waveform[:SIZE], waveform[SIZE : 2 * SIZE], last), strict=True):
        torch.testing.assert_close(own, model.embed_audio(heard[None])[0], rtol=0, atol=1e-6)


def test_a_recording_is_the_mean_of_its_windows_by_their_sound(model: CLAP, waveform: torch.Tensor) -> None:
    first, second, third = embed_windows(model, waveform)[0]
    mean = F.normalize(SIZE * first + SIZE * second + 1500 * third, dim=-1)
    torch.testing.assert_close(embed_recording(model, waveform), mean)


@torch.no_grad()
def test_a_recording_is_itself_wherever_and_however_often(model: CLAP, waveform: torch.Tensor) -> None:
    alone = embed_recording(model, waveform)
    assert torch.equal(alone, embed_recording(model, waveform))
    windows, _ = embed_windows(model, waveform)
    # Within a longer recording, which may be read in parts.
    before = 0.1 * torch.randn(TOGETHER * SIZE)
    longer, starts = embed_windows(model, torch.cat((before, waveform)))
    assert torch.equal(longer, torch.cat((embed_windows(model, before)[0], windows)))
    assert starts[TOGETHER:] == [TOGETHER * SIZE + start for start in (0, SIZE, 2 * SIZE)]
    elsewhere, _ = embed_windows(model, torch.cat((before[:SIZE], waveform)))
    assert float((elsewhere[1:] - windows).abs().max()) < 1e-5
    # In a batch with others.
    classifier = ZeroShotClassifier(model, ("rain", "dog"))
    lengths = torch.tensor([len(waveform), 700])
    batch = torch.randn(2, len(waveform))
    batch[0] = waveform
    difference = classifier.predict_proba(batch, lengths)[:1] - classifier.predict_proba(waveform[None])
    assert float(difference.abs().max()) < 1e-6
    together = model.embed_audio(torch.stack([waveform[:SIZE], waveform[SIZE : 2 * SIZE]] * 4))
    assert float((together[:2] - windows[:2]).abs().max()) < 1e-5


def test_a_window_of_its_own_length_has_no_second_one(model: CLAP, waveform: torch.Tensor) -> None:
    embedding, starts = embed_windows(model, waveform[:SIZE])
    assert starts == [0]
    assert torch.equal(embed_recording(model, waveform[:SIZE]), F.normalize(embedding[0], dim=-1))


def test_nothing_is_heard_as_silence(model: CLAP) -> None:
    silence, starts = embed_windows(model, torch.zeros(0))
    assert starts == [0]
    assert torch.equal(silence, embed_windows(model, torch.zeros(SIZE))[0])
    assert torch.equal(embed_recording(model, torch.zeros(0)), F.normalize(silence[0], dim=-1))


@pytest.mark.parametrize("fill", get_args(Fill))
@pytest.mark.parametrize("length", [0, 1, 3, 5, 9, 10, 12])
def test_filling_up_a_batch_is_filling_up_each(fill: Fill, length: int) -> None:
    rows, lengths = torch.arange(1.0, 25.0).reshape(2, 12), torch.tensor([length, 4])
    together = fill_up(rows, lengths, 10, fill)
    for row, own, number in zip(rows, together, lengths.tolist(), strict=True):
        np.testing.assert_array_equal(own.numpy(), filled(row[:number].numpy(), 10, fill))


def test_short_sound_is_repeated_as_the_model_was_trained() -> None:
    row, lengths = torch.tensor([[1.0, 2.0, 3.0, 9.0]]), torch.tensor([3])
    assert fill_up(row, lengths, 8, "repeat").tolist() == [[1, 2, 3, 1, 2, 3, 1, 2]]
    assert fill_up(row, lengths, 8, "repeat_whole").tolist() == [[1, 2, 3, 1, 2, 3, 0, 0]]
    assert fill_up(row, lengths, 8, "zeros").tolist() == [[1, 2, 3, 0, 0, 0, 0, 0]]
