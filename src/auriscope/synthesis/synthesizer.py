"""What every synthesiser is to training and speaking: tokens in, mel frames out, and an attention between the two.

A synthesiser writes what a vocoder reads: both store the same definition of the mels
(:class:`~auriscope.signal.vocoding.MelConfig`) in their configuration.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.nn.masks import length_mask
from auriscope.pretrained.model import Model
from auriscope.signal.vocoding import MelConfig
from auriscope.synthesis.guided import aligned_attention_loss, guided_attention_loss
from auriscope.text.tokenizer import BLANK, EOS, Tokenizer, TokenKind

Distance = Literal["squared", "absolute"]
"""How far frames are from what they should be."""

SPELLING = "abcdefghijklmnopqrstuvwxyz' ,.;:?!-"
"""What the default tokens write: small letters, and the punctuation that is heard."""


@dataclass(frozen=True)
class SynthesizerConfig:
    """What the configuration of every synthesiser begins with.

    Args:
        tokens: what texts are written in; number ``pad_id`` fills up a batch and is never spoken.
        token_kind: how the tokens write a text, see :class:`~auriscope.text.tokenizer.Tokenizer`.
        spelling: whether the tokens are letters or phonemes, into which a text must be turned first.
        pad_id: the number of the token that is no text.
        eos_id: the token behind the last of every text; None: there is none.
        mel: what the mels are.
        mel_mean: what is taken off the logarithms of the mels before a network reads them, and added to what it writes.
        mel_scale: what they are divided by, and multiplied with.
        frames_per_step: frames that the decoder writes at once (the reduction factor r of Tacotron, section 3.3).
        voice_dim: size of the embedding of a speaker that decides whose voice it is; 0: there is one voice.
        voice_model: address of the speaker model whose embeddings the voices are.
        rest_seconds: for how long a model that speaks by itself may look at the last two tokens, before that is the end
            even if it does not say so; None: as long as it likes.
    """

    tokens: tuple[str, ...] = (BLANK, EOS, *SPELLING)
    token_kind: TokenKind = "characters"
    spelling: Literal["letters", "phonemes"] = "letters"
    pad_id: int = 0
    eos_id: int | None = 1
    mel: MelConfig = field(default_factory=MelConfig)
    mel_mean: float = 0.0
    mel_scale: float = 1.0
    frames_per_step: int = 1
    voice_dim: int = 0
    voice_model: str = ""
    rest_seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.mel_scale > 0:
            raise ValueError(f"mel_scale must be positive, not {self.mel_scale}")
        if self.frames_per_step < 1:
            raise ValueError(f"frames_per_step must be at least 1, not {self.frames_per_step}")
        if self.voice_dim < 0:
            raise ValueError(f"voice_dim must not be negative, but is {self.voice_dim}")
        if self.rest_seconds is not None and not self.rest_seconds > 0:
            raise ValueError(f"rest_seconds must be positive, not {self.rest_seconds}")

    @property
    def sample_rate(self) -> int:
        """That of the mels, in hertz."""
        return self.mel.sample_rate


@dataclass(frozen=True)
class Spoken:
    """What a synthesiser writes when it is told the frames before each (teacher forcing).

    ``mel`` and ``refined`` (batch, frames, mels) are the decoder's frames and those behind the network that refines
    them, logarithms as the vocoder reads them; ``stop_logits`` (batch, frames) say whether a frame is the last;
    ``attention`` (batch, frames, tokens) is where the decoder looked, and sums to 1 over the tokens.
    """

    mel: Tensor
    refined: Tensor
    stop_logits: Tensor
    attention: Tensor


@dataclass(frozen=True)
class Generated:
    """What a synthesiser says by itself.

    ``mel`` (batch, frames, mels) for the vocoder, of which ``frame_lengths`` (batch,) are valid, the floor of the mels
    behind them; ``attention`` (batch, frames, tokens); ``stopped`` (batch,) bool: it ended by itself, and not because
    it may not speak for longer.
    """

    mel: Tensor
    frame_lengths: Tensor
    attention: Tensor
    stopped: Tensor


class Synthesizer(Model):
    """Base of every synthesiser: an encoder of tokens, and a decoder that writes frames while it looks at them.

    A subclass has :meth:`forward` for training and, step by step for speaking, :meth:`begin`, :meth:`step` and
    :meth:`refine`. Inside, frames are normalised by ``mel_mean`` and ``mel_scale``; outside they never are.
    """

    unexportable: ClassVar[str] = "the number of frames and tokens is data"
    takes_paths: ClassVar[bool] = False
    """Whether the decoder can be told where to look while it learns."""
    stop_threshold: ClassVar[float] = 0.5
    """The probability from which a frame counts as the last."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokens of the configuration."""
        config = self.config
        return Tokenizer(
            config.tokens, config.token_kind, blank_id=config.pad_id, bos_id=config.eos_id, eos_id=config.eos_id
        )

    def encode_text(self, text: str) -> list[int]:
        """Turn a text, or phonemes, into token numbers, the end of the text included.

        Capitals are written small where the tokens have none. Raises ``AuriscopeError`` for an empty text and for a
        character that the tokens cannot write.
        """
        has_capitals = any(len(token) == 1 and token.isupper() for token in self.config.tokens)
        numbers = self.tokenizer.encode(text if has_capitals else text.lower())
        if not numbers:
            raise AuriscopeError("there is no text to speak")
        return numbers if self.config.eos_id is None else [*numbers, self.config.eos_id]

    def batch_texts(self, texts: Iterable[str]) -> tuple[Tensor, Tensor]:
        """Encode texts as a batch: tokens (batch, tokens) and token lengths (batch,), on the model's device."""
        encoded = [self.encode_text(text) for text in texts]
        lengths = torch.tensor([len(each) for each in encoded])
        tokens = torch.full((len(encoded), int(lengths.max())), self.config.pad_id)
        for row, each in zip(tokens, encoded, strict=True):
            row[: len(each)] = torch.tensor(each)
        return tokens.to(self.device), lengths.to(self.device)

    @abstractmethod
    def forward(
        self,
        tokens: Tensor,
        token_lengths: Tensor | None,
        mel: Tensor,
        frame_lengths: Tensor | None = None,
        voice: Tensor | None = None,
        paths: Tensor | None = None,
    ) -> Spoken:
        """Say what comes after each of the frames.

        Args:
            tokens: (batch, tokens) int64.
            token_lengths: (batch,), valid tokens; None: all.
            mel: (batch, frames, mels), what is to be said.
            frame_lengths: (batch,), valid frames; None: all.
            voice: (batch, voice_dim), the speakers' embeddings, where the model has several voices.
            paths: (batch, frames), for a model that ``takes_paths``: the token, or the place between two tokens, that
                each frame is said from. The decoder then looks there, and the attention that is given is where it would
                have looked; None: it looks where it wants.
        """

    @abstractmethod
    def begin(self, tokens: Tensor, token_lengths: Tensor, voice: Tensor | None) -> Any:
        """Encode tokens (batch, tokens), and make the decoder's state before the first frame."""

    @abstractmethod
    def step(
        self, frame: Tensor, state: Any, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Any]:
        """Read the newest frame (batch, mels) and write those that follow; all normalised.

        Returns the frames (batch, frames_per_step, mels), the logits (batch,) of this step being the last, the
        attention (batch, tokens), and the new state. ``generator`` draws the dropout that a paper keeps when speaking.
        """

    @abstractmethod
    def refine(self, mel: Tensor, frame_lengths: Tensor) -> Tensor:
        """Improve all frames (batch, frames, mels) at once, normalised; what is behind the ends does not matter."""

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor,
        token_lengths: Tensor | None = None,
        voice: Tensor | None = None,
        *,
        max_seconds: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Generated:
        """Speak tokens (batch, tokens), of which ``token_lengths`` (batch,) are valid; ``voice`` as in training.

        ``max_seconds`` bounds the speech; by default 2 s and a quarter of a second for every token, several times what
        anybody needs. What is random in a model is drawn from ``generator``, or from torch's own.
        """
        config = self.config
        if token_lengths is None:
            token_lengths = tokens.new_full((len(tokens),), tokens.shape[1])
        if max_seconds is None:
            max_seconds = 2.0 + 0.25 * int(token_lengths.max())
        stride = config.frames_per_step
        max_steps = max(1, int(max_seconds / config.mel.frame_seconds) // stride)
        state = self.begin(tokens, token_lengths, voice)
        frame = torch.zeros(len(tokens), config.mel.num_mels, device=tokens.device)
        lengths = torch.full_like(token_lengths, max_steps * stride)
        stopped = torch.zeros_like(token_lengths, dtype=torch.bool)
        rest = (
            max_steps
            if config.rest_seconds is None
            else round(config.rest_seconds / config.mel.frame_seconds) // stride
        )
        rested = torch.zeros_like(token_lengths)
        written: list[Tensor] = []
        looks: list[Tensor] = []
        while len(written) < max_steps and not bool(stopped.all()):
            frames, stop_logits, attention, state = self.step(frame, state, generator)
            frame = frames[:, -1]
            written.append(frames)
            looks.append(attention)
            ends = (stop_logits.sigmoid() > self.stop_threshold) & ~stopped
            lengths = lengths.masked_fill(ends, len(written) * stride)
            stopped = stopped | ends
            rested = torch.where(attention.argmax(-1) >= token_lengths - 2, rested + 1, 0)
            ends = (rested > rest) & ~stopped
            # What follows the first half of the rest was not to be said.
            lengths = lengths.masked_fill(ends, (len(written) - rest // 2) * stride)
            stopped = stopped | ends
        mel = torch.cat(written, 1)
        lengths = lengths.clamp(max=mel.shape[1])
        refined = self.denormalised(self.refine(mel, lengths))
        behind = ~length_mask(lengths, mel.shape[1])
        refined = refined.masked_fill(behind[..., None], math.log(config.mel.floor))
        return Generated(refined, lengths, torch.stack(looks, 1).repeat_interleave(stride, 1), stopped)

    def losses(
        self,
        spoken: Spoken,
        mel: Tensor,
        token_lengths: Tensor,
        frame_lengths: Tensor,
        *,
        distance: Distance = "squared",
        stop_weight: float = 5.0,
        guided_weight: float = 1.0,
        guided_width: float = 0.2,
        paths: Tensor | None = None,
        aligned_width: float = 2.0,
    ) -> dict[str, Tensor]:
        """Losses of what was said against ``mel`` (batch, frames, mels), each the mean over valid frames.

        ``mel`` is the distance of both the decoder's frames and the refined ones, in normalised units; ``stop`` the
        cross-entropy of the stop token, whose one step of every utterance counts ``stop_weight`` times (N. Li et al.,
        arXiv 1809.08895, section 3.7); ``guided`` see :func:`~auriscope.synthesis.guided.guided_attention_loss` or,
        with ``paths`` (batch, frames), :func:`~auriscope.synthesis.guided.aligned_attention_loss`; and ``loss`` the
        sum, the last one times ``guided_weight``.
        """
        valid = length_mask(frame_lengths, mel.shape[1])
        num_frames = valid.sum()
        target = self.normalised(mel)
        apart = torch.zeros((), device=mel.device)
        for written in (spoken.mel, spoken.refined):
            difference = (self.normalised(written) - target).float()
            each = difference.square() if distance == "squared" else difference.abs()
            apart = apart + (each.mean(-1) * valid).sum() / num_frames
        stride = self.config.frames_per_step
        last = (frame_lengths - 1).div(stride, rounding_mode="floor") * stride
        ends = (torch.arange(mel.shape[1], device=mel.device) >= last[:, None]).float()
        stop = F.binary_cross_entropy_with_logits(
            spoken.stop_logits.float(), ends, reduction="none", pos_weight=apart.new_tensor(stop_weight)
        )
        losses = {"mel": apart, "stop": (stop * valid).sum() / num_frames}
        losses["loss"] = losses["mel"] + losses["stop"]
        if guided_weight:
            attention = spoken.attention.float()
            if paths is None:
                losses["guided"] = guided_attention_loss(attention, token_lengths, frame_lengths, guided_width)
            else:
                losses["guided"] = aligned_attention_loss(attention, paths, frame_lengths, aligned_width)
            losses["loss"] = losses["loss"] + guided_weight * losses["guided"]
        return losses

    def normalised(self, mel: Tensor) -> Tensor:
        """Mels as the network reads them."""
        normal: Tensor = (mel - self.config.mel_mean) / self.config.mel_scale
        return normal

    def denormalised(self, mel: Tensor) -> Tensor:
        """Mels as the network writes them, as vocoders read them."""
        scaled: Tensor = mel * self.config.mel_scale + self.config.mel_mean
        return scaled


def whole_steps(mel: Tensor, frames_per_step: int) -> Tensor:
    """Pad mels (batch, frames, mels) with zeros to a whole number of steps."""
    return F.pad(mel, (0, 0, 0, -mel.shape[1] % frames_per_step))


def frames_before(mel: Tensor, frames_per_step: int) -> Tensor:
    """What the decoder reads before each step, (batch, steps, mels): the last frame of the step before, first zeros.

    ``mel`` (batch, frames, mels) has a whole number of steps.
    """
    return a_step_later(mel[:, frames_per_step - 1 :: frames_per_step])


def a_step_later(x: Tensor) -> Tensor:
    """What there was in the step before, first zeros, of x (batch, steps, channels)."""
    return F.pad(x[:, :-1], (0, 0, 1, 0))


class VoiceInput(nn.Module):
    """Adds a speaker's embedding to what the decoder looks at; nothing where a model has one voice.

    The sum of a projection and the encoder's states is what the next linear layer makes of the two side by side: Y. Jia
    et al., "Transfer Learning from Speaker Verification to Multispeaker Text-To-Speech Synthesis" (arXiv 1806.04558),
    section 2.2. The embedding's length is made √voice_dim, as only its direction tells the speaker.
    """

    def __init__(self, voice_dim: int, dim: int) -> None:
        super().__init__()
        self.voice_dim = voice_dim
        self.project = nn.Linear(voice_dim, dim) if voice_dim else None

    def forward(self, states: Tensor, voice: Tensor | None) -> Tensor:
        """Add ``voice`` (batch, voice_dim) to all states (batch, tokens, dim); ``ValueError`` if one is missing."""
        if self.project is None:
            if voice is not None:
                raise ValueError("the model has one voice: it takes no embedding")
            return states
        if voice is None:
            raise ValueError(f"the model needs the embedding of a voice, (batch, {self.voice_dim})")
        if voice.shape[-1] != self.voice_dim:
            raise ValueError(f"the voice has {voice.shape[-1]} numbers, and the model reads {self.voice_dim}")
        added: Tensor = self.project(F.normalize(voice, dim=-1) * self.voice_dim**0.5)
        return states + added[:, None]
