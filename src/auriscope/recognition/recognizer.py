"""What every recogniser is to training and decoding: an encoder, and CTC, a decoder with attention, or both, on it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.pretrained.model import Model
from auriscope.recognition.alignment import ctc_align
from auriscope.text.tokenizer import Tokenizer, TokenKind

if TYPE_CHECKING:
    from auriscope.recognition.decoding.hypothesis import Hypothesis

ENGLISH = "ABCDEFGHIJKLMNOPQRSTUVWXYZ' "


@dataclass(frozen=True)
class RecognizerConfig:
    """What the configuration of every recogniser begins with: the sample rate, the features and the tokens.

    ``tokens``, ``token_kind`` and ``token_scores`` are those of :class:`~auriscope.text.tokenizer.Tokenizer`, as are
    the numbers of CTC's blank and of a sentence's two ends; by default the capital letters of English with apostrophe
    and space.
    """

    sample_rate: int = 16_000
    num_mels: int = 80
    tokens: tuple[str, ...] = ("<blank>", "<eos>", *ENGLISH)
    token_kind: TokenKind = "characters"
    token_scores: tuple[float, ...] = ()
    blank_id: int = 0
    bos_id: int = 1
    eos_id: int = 1


@dataclass(frozen=True)
class Encoded:
    """What an encoder makes of a batch: ``states`` (batch, frames, dim), of which ``frame_lengths`` (batch,) are valid.

    ``frame_seconds`` is the time from one frame to the next.
    """

    states: Tensor
    frame_lengths: Tensor
    frame_seconds: float

    def keep(self, utterances: Tensor) -> Encoded:
        """The utterances of these numbers alone, (n,) int64."""
        return Encoded(self.states[utterances], self.frame_lengths[utterances], self.frame_seconds)


class Recognizer(Model):
    """Base of every recogniser: waveform to features to encoder states, and from there to tokens.

    ``has_ctc`` and ``has_decoder`` say which of the two ways to the tokens a model has. With CTC: :meth:`ctc_logits`.
    With a decoder: :meth:`decoder_logits` for training and, token by token for a beam of prefixes of every utterance,
    :meth:`start`, :meth:`step`, :meth:`select` and :meth:`keep`. Rows of the beam are ordered (batch, beam).
    """

    front: Any
    """The features, a module."""
    head: Any
    """From states to CTC's logits, a module."""
    has_ctc: bool = False
    has_decoder: bool = False
    maskable: bool = True
    """Whether padding changes nothing; other models are batched by equal length only."""
    decodes_itself: ClassVar[bool] = False
    """Whether there is no search over tokens to be done, as :meth:`transcribe` says it all."""
    unexportable: ClassVar[str] = "the number of frames and tokens is data"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokens of the configuration."""
        config = self.config
        ends = config.bos_id, config.eos_id
        return Tokenizer(config.tokens, config.token_kind, config.token_scores, config.blank_id, *ends)

    @property
    def max_seconds(self) -> float | None:
        """The longest recording that is taken at once; None: any."""
        return None

    def transcribe(self, waveform: Tensor, lengths: Tensor | None = None) -> list[Hypothesis]:
        """Transcribe waveforms (batch, time), of a model that ``decodes_itself``."""
        raise NotImplementedError(f"{self.name} does not decode itself: use decode")

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Turn waveforms (batch, time) into features (batch, frames, channels) and frame lengths (batch,).

        Those of ``self.front``, unless a model has another way.
        """
        features: tuple[Tensor, Tensor] = self.front(waveform, lengths)
        return features

    @abstractmethod
    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Encode features (batch, frames, channels)."""

    def encode(self, waveform: Tensor, lengths: Tensor | None = None) -> Encoded:
        """Encode waveforms (batch, time), of which ``lengths`` (batch,) samples are valid."""
        return self.encode_features(*self.features(waveform, lengths))

    def ctc_logits(self, encoded: Encoded) -> Tensor:
        """Logits (batch, frames, tokens) of CTC, the blank being token ``tokenizer.blank_id``.

        Those of the layer ``self.head``, unless a model has another way.
        """
        if not self.has_ctc:
            raise NotImplementedError(f"{self.name} has no CTC")
        logits: Tensor = self.head(encoded.states)
        return logits

    @torch.no_grad()
    def letter_times(self, waveform: Tensor, text: str) -> list[tuple[int, float]]:
        """When the letters of a text were said in a waveform (time,), by the likeliest path of CTC.

        Gives the place in ``text`` of each letter that the tokens can write, large or small, and the second of its
        middle, in order; nothing where there are none, or they do not fit into the waveform. ``ValueError`` for a model
        whose tokens are no letters.
        """
        if self.config.token_kind != "characters":
            raise ValueError(f"{self.name} writes {self.config.token_kind}, not letters")
        numbers = {token: number for number, token in enumerate(self.tokenizer.tokens) if len(token) == 1}
        found = [(place, numbers.get(sign, numbers.get(sign.swapcase()))) for place, sign in enumerate(text)]
        # Spaces are heard, too, but they are no letters.
        said = [(place, number) for place, number in found if number is not None]
        encoded = self.encode(waveform[None])
        log_probs = self.ctc_logits(encoded).float().log_softmax(-1)
        tokens = torch.tensor([[number for _, number in said]], dtype=torch.int64, device=log_probs.device)
        assert self.tokenizer.blank_id is not None
        (spans,) = ctc_align(log_probs, tokens, blank_id=self.tokenizer.blank_id).spans
        return [
            (place, encoded.frame_seconds * (span.first_frame + span.end_frame) / 2.0)
            for (place, _), span in zip(said, spans, strict=bool(spans))
            if text[place] != " "
        ]

    def decoder_logits(self, encoded: Encoded, tokens: Tensor) -> Tensor:
        """Teacher forcing: logits (batch, tokens, classes) of what follows each of the tokens (batch, tokens).

        The first of ``tokens`` is the beginning of the sentence; behind an utterance's end they may be anything.
        """
        raise NotImplementedError(f"{self.name} has no decoder")

    def start(self, encoded: Encoded, beam_size: int) -> Any:
        """Make the decoder's state before the first token, for ``beam_size`` prefixes of each utterance."""
        raise NotImplementedError(f"{self.name} has no decoder")

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any, Tensor | None]:
        """Read a token of each prefix, (batch, beam), and say what may follow.

        Returns log-probabilities (batch, beam, classes), the new state, and where there is one the attention over the
        frames (batch, beam, frames), which sums to 1.
        """
        raise NotImplementedError(f"{self.name} has no decoder")

    def select(self, state: Any, parents: Tensor) -> Any:
        """Reorder the prefixes of every utterance: new prefix k is what ``parents`` (batch, beam) names."""
        raise NotImplementedError(f"{self.name} has no decoder")

    def keep(self, state: Any, utterances: Tensor) -> Any:
        """Keep the utterances of these numbers alone, (n,) int64: the others are done."""
        raise NotImplementedError(f"{self.name} has no decoder")

    def losses(
        self,
        encoded: Encoded,
        tokens: Tensor,
        token_lengths: Tensor,
        *,
        ctc_weight: float = 0.3,
        label_smoothing: float = 0.0,
    ) -> dict[str, Tensor]:
        """Losses of a batch, each per utterance and averaged: ``ctc``, ``decoder`` (per token), and ``loss`` of both.

        Shapes: ``tokens`` (batch, tokens), without the sentence's ends. With both ways, ``loss`` is ``ctc_weight``
        times CTC's, per token, and the rest times the decoder's; S. Watanabe et al., "Hybrid CTC/Attention
        Architecture for End-to-End Speech Recognition", IEEE JSTSP 11(8), 2017, equation 20.
        """
        losses: dict[str, Tensor] = {}
        if self.has_ctc:
            log_probs = self.ctc_logits(encoded).float().log_softmax(-1).transpose(0, 1)
            blank = self.tokenizer.blank_id
            assert blank is not None
            each = F.ctc_loss(
                log_probs, tokens, encoded.frame_lengths, token_lengths, blank, "none", zero_infinity=True
            )
            losses["ctc"] = (each / token_lengths.clamp(min=1)).mean()
        if self.has_decoder:
            bos, eos = self.tokenizer.bos_id, self.tokenizer.eos_id
            assert bos is not None
            assert eos is not None
            valid = torch.arange(tokens.shape[1], device=tokens.device) < token_lengths[:, None]
            body = torch.where(valid, tokens, eos)
            ends = tokens.new_full((len(tokens), 1), bos), tokens.new_full((len(tokens), 1), eos)
            logits = self.decoder_logits(encoded, torch.cat((ends[0], body), 1)).float()
            target = torch.cat((body, ends[1]), 1)
            each = F.cross_entropy(logits.mT, target, reduction="none", label_smoothing=label_smoothing)
            counted = torch.arange(target.shape[1], device=tokens.device) <= token_lengths[:, None]
            losses["decoder"] = (each * counted).sum() / counted.sum()
        if len(losses) == 2:
            losses["loss"] = ctc_weight * losses["ctc"] + (1.0 - ctc_weight) * losses["decoder"]
        else:
            losses["loss"] = next(iter(losses.values()))
        return losses
