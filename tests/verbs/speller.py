"""A voice that spells: every letter is a tone, and some words can be made to fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from auriscope.signal.vocoding import MelConfig
from auriscope.synthesis.griffinlim import GriffinLim, GriffinLimConfig
from auriscope.synthesis.synthesizer import Spoken, Synthesizer, SynthesizerConfig

MEL = MelConfig(16_000, 1024, 256, 1024, 40)
FRAMES_PER_LETTER = 5


@dataclass(frozen=True)
class SpellerConfig(SynthesizerConfig):
    """``stumbling``: how often, 0 to 1, it goes back to the beginning at a "q"."""

    mel: MelConfig = MEL
    stumbling: float = 0.5


class Speller(Synthesizer, name="synthesis/speller"):
    """Sings a tone for each letter, whose height is the letter's number and whose loudness is the voice."""

    Config = SpellerConfig
    unexportable: ClassVar[str] = "only of these tests"

    def __init__(self, config: SpellerConfig) -> None:
        super().__init__(config)
        self.loudness = torch.nn.Parameter(torch.zeros(1))

    def forward(self, *_: Any, **__: Any) -> Spoken:
        raise NotImplementedError

    def begin(self, tokens: Tensor, token_lengths: Tensor, voice: Tensor | None) -> Any:
        where = torch.zeros(len(tokens), dtype=torch.int64)
        return tokens, token_lengths, voice, where, torch.zeros(len(tokens), dtype=torch.bool)

    def step(self, frame: Tensor, state: Any, generator: torch.Generator | None = None) -> Any:
        tokens, token_lengths, voice, where, stumbled = state
        letter = (where // FRAMES_PER_LETTER).clamp(max=token_lengths - 1)
        rows = torch.arange(len(tokens))
        number = tokens[rows, letter]
        mel = torch.full((len(tokens), MEL.num_mels), -4.0)
        mel[rows, 3 + number % 30] = -1.0
        mel = mel + self.loudness if voice is None else mel + self.loudness + voice[:, :1]
        attention = torch.nn.functional.one_hot(letter, tokens.shape[1]).float()
        at_q = (number == self.config.tokens.index("q")) & ~stumbled & (where % FRAMES_PER_LETTER == 4)
        falls = at_q & (torch.rand(len(tokens), generator=generator) < self.config.stumbling)
        stop = torch.where(where >= FRAMES_PER_LETTER * token_lengths - 1, 9.0, -9.0)
        where = torch.where(falls, 0, where + 1)
        return mel[:, None], stop, attention, (tokens, token_lengths, voice, where, stumbled | at_q)

    def refine(self, mel: Tensor, frame_lengths: Tensor) -> Tensor:
        return mel


VOCODER = GriffinLim(GriffinLimConfig(mel=MEL, num_iterations=2, num_inversion_steps=2))


def tone(seconds: float, hertz: float = 220.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    time = np.arange(round(16_000 * seconds)) / 16_000
    return (0.3 * np.sin(2 * np.pi * hertz * time) * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)
