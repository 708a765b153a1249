"""Transformer TTS: attention with several heads in the place of recurrent networks, so that training needs no loop.

N. Li, S. Liu, Y. Liu, S. Zhao and M. Liu, "Neural Speech Synthesis with Transformer Network" (arXiv 1809.08895),
section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from auriscope.nn.attention import MultiHeadAttention, PrefixCache, sinusoids
from auriscope.nn.masks import length_mask
from auriscope.nn.transformer import Memory, TransformerLayer
from auriscope.synthesis.layers import ConvStack, Prenet, postnet
from auriscope.synthesis.synthesizer import (
    Spoken,
    Synthesizer,
    SynthesizerConfig,
    VoiceInput,
    frames_before,
    whole_steps,
)


@dataclass(frozen=True)
class TransformerTTSConfig(SynthesizerConfig):
    """The configuration of Transformer TTS; the defaults are the paper's (section 3), the mels those of the base.

    Args:
        dim: channels.
        num_layers: of the encoder, and as many of the decoder.
        num_heads: of each attention.
        hidden_size: between the two linear layers of a layer.
        dropout: in the layers, and of the positions.
        norm_first: normalise what goes into a part; the paper normalises behind it.
        num_prenet_convolutions: through which the encoder reads its tokens.
        prenet_kernel_size: of each.
        prenet_size: units of both layers through which the decoder reads a frame.
        prenet_dropout: of those, and of the convolutions.
        speaking_dropout: whether the decoder's prenet drops units when the model speaks, too, as Tacotron 2's does.
        num_guided_layers: the last layers of the decoder whose attention is shown, and guided in training.
        postnet_size: channels of the convolutions that refine all frames.
        num_postnet_convolutions: how many there are.
        postnet_kernel_size: of each.
        postnet_dropout: of them.
    """

    dim: int = 512
    num_layers: int = 6
    num_heads: int = 8
    hidden_size: int = 2048
    dropout: float = 0.1
    norm_first: bool = False
    num_prenet_convolutions: int = 3
    prenet_kernel_size: int = 5
    prenet_size: int = 256
    prenet_dropout: float = 0.5
    speaking_dropout: bool = True
    num_guided_layers: int = 2
    postnet_size: int = 512
    num_postnet_convolutions: int = 5
    postnet_kernel_size: int = 5
    postnet_dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.num_guided_layers <= self.num_layers:
            raise ValueError(f"num_guided_layers {self.num_guided_layers} must be from 1 to num_layers")


class ScaledPositions(nn.Module):
    """Adds sinusoidal positions times a learnt weight, since texts and mels are of other sizes; equation 3."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """Add the positions ``first``, ``first + 1``, ... to x (batch, positions, dim)."""
        placed: Tensor = self.dropout(x + self.weight * sinusoids(first, x.shape[1], x.shape[2], x.device))
        return placed


@dataclass(frozen=True)
class TransformerTTSState:
    """Where the decoder is: what it has read, and the encoder's states as each of its layers looks at them."""

    memories: tuple[Memory, ...]
    mask: Tensor | None
    cache: PrefixCache


class TransformerTTS(Synthesizer, name="synthesis/transformer-tts"):
    """Tokens (batch, tokens) to mels (batch, frames, mels); a frame attends to all before it."""

    Config = TransformerTTSConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "dim": 16,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_size": 16,
        "dropout": 0.0,
        "num_prenet_convolutions": 1,
        "prenet_kernel_size": 3,
        "prenet_size": 8,
        "prenet_dropout": 0.0,
        "postnet_size": 16,
        "num_postnet_convolutions": 2,
        "postnet_dropout": 0.0,
        "frames_per_step": 2,
        "voice_dim": 6,
    }
    Published: ClassVar[dict[str, float]] = {"MOS of the paper's own voice, with WaveNet": 4.39}

    def __init__(self, config: TransformerTTSConfig) -> None:
        super().__init__(config)
        dim, mels = config.dim, config.mel.num_mels
        self.embedding = nn.Embedding(len(config.tokens), dim)
        self.prenet = ConvStack(
            dim, [dim] * config.num_prenet_convolutions, config.prenet_kernel_size, "relu", config.prenet_dropout
        )
        # Behind a ReLU everything is above zero, and positions lie around it; section 3.3 of the paper.
        self.centre = nn.Linear(dim, dim)
        self.token_positions = ScaledPositions(config.dropout)
        self.encoder = self._layers(cross=False)
        self.encoder_norm = nn.LayerNorm(dim) if config.norm_first else nn.Identity()
        self.voice = VoiceInput(config.voice_dim, dim)
        self.frame_prenet = Prenet(mels, [config.prenet_size] * 2, config.prenet_dropout)
        self.frame_centre = nn.Linear(config.prenet_size, dim)
        self.frame_positions = ScaledPositions(config.dropout)
        self.decoder = self._layers(cross=True)
        self.decoder_norm = nn.LayerNorm(dim) if config.norm_first else nn.Identity()
        self.write = nn.Linear(dim, mels * config.frames_per_step)
        self.stop = nn.Linear(dim, 1)
        self.postnet = postnet(
            mels,
            config.postnet_size,
            config.num_postnet_convolutions,
            config.postnet_kernel_size,
            config.postnet_dropout,
        )

    def forward(
        self,
        tokens: Tensor,
        token_lengths: Tensor | None,
        mel: Tensor,
        frame_lengths: Tensor | None = None,
        voice: Tensor | None = None,
        paths: Tensor | None = None,  # noqa: ARG002
    ) -> Spoken:
        """Say what comes after each of the frames (batch, frames, mels); see the base."""
        frames, stride = mel.shape[1], self.config.frames_per_step
        memories, mask = self._encode(tokens, token_lengths, voice)
        target = whole_steps(self.normalised(mel), stride)
        x = self.frame_positions(self.frame_centre(self.frame_prenet(frames_before(target, stride))))

        def look(attention: MultiHeadAttention, y: Tensor) -> Tensor:
            return attention(y, causal=True)[0]  # type: ignore[no-any-return]

        looks: list[Tensor] = []
        for number, layer in enumerate(self.decoder):
            x, weights = layer(x, look, memories[number], mask, need_weights=self._is_guided(number))
            if weights is not None:
                looks.append(weights)
        written = self.decoder_norm(x)
        output = self.write(written).unflatten(-1, (stride, -1)).flatten(1, 2)[:, :frames]
        stop = self.stop(written).repeat_interleave(stride, 1)[:, :frames, 0]
        attention = torch.stack(looks).mean(0).repeat_interleave(stride, 1)[:, :frames]
        refined = self.refine(output, frame_lengths)
        return Spoken(self.denormalised(output), self.denormalised(refined), stop, attention)

    def begin(self, tokens: Tensor, token_lengths: Tensor | None, voice: Tensor | None) -> TransformerTTSState:
        """Encode tokens (batch, tokens), and make the decoder's state before the first frame."""
        config = self.config
        memories, mask = self._encode(tokens, token_lengths, voice)
        width = config.dim // config.num_heads
        like = memories[0][0]
        cache = PrefixCache.empty(config.num_layers, len(tokens), 1, config.num_heads, width, like, room=256)
        return TransformerTTSState(memories, mask, cache)

    def step(
        self, frame: Tensor, state: TransformerTTSState, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor, TransformerTTSState]:
        """Read the newest frame and write those that follow; see the base."""
        cache = state.cache.extended()
        read = self.frame_prenet(frame[:, None], speaking=self.config.speaking_dropout, generator=generator)
        x = self.frame_positions(self.frame_centre(read), cache.num_tokens - 1)
        looks: list[Tensor] = []
        for number, layer in enumerate(self.decoder):

            def look(attention: MultiHeadAttention, y: Tensor, number: int = number) -> Tensor:
                query, key, value = attention.itself(y)
                return attention.attend(query, cache.append(number, key, value))[0]

            guided = self._is_guided(number)
            x, weights = layer(x, look, state.memories[number], state.mask, need_weights=guided)
            if weights is not None:
                looks.append(weights)
        written = self.decoder_norm(x)
        frames = self.write(written[:, 0]).unflatten(-1, (self.config.frames_per_step, -1))
        attention = torch.stack(looks).mean(0)[:, 0]
        return frames, self.stop(written)[:, 0, 0], attention, replace(state, cache=cache)

    def refine(self, mel: Tensor, frame_lengths: Tensor | None) -> Tensor:
        """Add what the convolutions over all frames find; section 3.7 of the paper, the post-net."""
        valid = None
        if frame_lengths is not None and bool((frame_lengths < mel.shape[1]).any()):
            valid = length_mask(frame_lengths, mel.shape[1])
        refined: Tensor = mel + self.postnet(mel, valid)
        return refined

    def _layers(self, *, cross: bool) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            TransformerLayer(
                config.dim,
                config.num_heads,
                config.hidden_size,
                config.dropout,
                cross=cross,
                norm_first=config.norm_first,
            )
            for _ in range(config.num_layers)
        )

    def _is_guided(self, number: int) -> bool:
        return bool(number >= self.config.num_layers - self.config.num_guided_layers)

    def _encode(
        self, tokens: Tensor, token_lengths: Tensor | None, voice: Tensor | None
    ) -> tuple[tuple[Memory, ...], Tensor | None]:
        """Each of the decoder's layers' keys and values of the tokens, and the mask of those that are valid."""
        valid, mask = None, None
        if token_lengths is not None and bool((token_lengths < tokens.shape[1]).any()):
            valid = length_mask(token_lengths, tokens.shape[1])
            mask = valid[:, None, None]
        x = self.token_positions(self.centre(self.prenet(self.embedding(tokens), valid)))

        def look(attention: MultiHeadAttention, y: Tensor) -> Tensor:
            return attention(y, mask=mask)[0]  # type: ignore[no-any-return]

        for layer in self.encoder:
            x, _ = layer(x, look)
        states = self.voice(self.encoder_norm(x), voice)
        memories = []
        for layer in self.decoder:
            assert isinstance(layer, TransformerLayer)
            memories.append(layer.remember(states))
        return tuple(memories), mask
