"""Words of tones, and a small BLSTM that has learnt to write them within a second of training."""

from __future__ import annotations

import itertools
import math
from functools import cache

import torch
from torch import Tensor

from auriscope.recognition import BLSTMCTC, BLSTMCTCConfig

RATE = 8000
LETTERS = "ABC"
TONE_SECONDS, QUIET_SECONDS = 0.12, 0.18


def tones(texts: list[str], generator: torch.Generator) -> tuple[Tensor, list[list[float]]]:
    """Sing every letter as a tone of its own, silence being a space; also when each word begins, in seconds."""
    moment = torch.arange(int(TONE_SECONDS * RATE)) / RATE
    waveforms, starts = [], []
    for text in texts:
        parts, begins, now = [], [], 0.0
        for before, letter in itertools.pairwise(f". {text} "):
            if letter == " ":
                seconds = QUIET_SECONDS * (0.7 + 0.6 * torch.rand(1, generator=generator).item())
                parts.append(torch.zeros(int(seconds * RATE)))
            else:
                if before == " ":
                    begins.append(now)
                parts.append(0.3 * torch.sin(2 * math.pi * 300.0 * 2.0 ** LETTERS.index(letter) * moment))
            now += len(parts[-1]) / RATE
        waveforms.append(torch.cat(parts))
        starts.append(begins)
    longest = max(map(len, waveforms))
    padded = torch.stack([torch.nn.functional.pad(waveform, (0, longest - len(waveform))) for waveform in waveforms])
    return padded + 0.003 * torch.randn(padded.shape, generator=generator), starts


def tone_texts(number: int, generator: torch.Generator) -> list[str]:
    def word() -> str:
        first = int(torch.randint(3, (1,), generator=generator))
        second = int(torch.randint(1, 3, (1,), generator=generator))
        return LETTERS[first] + LETTERS[(first + second) % 3]

    return [f"{word()} {word()}" for _ in range(number)]


@cache
def trained_on_tones() -> BLSTMCTC:
    """Train the recogniser; the same one every time."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    config = BLSTMCTCConfig(
        sample_rate=RATE,
        num_mels=12,
        num_cells=24,
        num_layers=1,
        subsampling=3,
        tokens=("<blank>", "<eos>", *LETTERS, " "),
    )
    model = BLSTMCTC(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(60):
        texts = tone_texts(8, generator)
        waveform, _ = tones(texts, generator)
        encoded = model.encode(waveform)
        tokens = torch.tensor([model.tokenizer.encode(text) for text in texts])
        optimizer.zero_grad()
        model.losses(encoded, tokens, torch.full((8,), 5))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()
