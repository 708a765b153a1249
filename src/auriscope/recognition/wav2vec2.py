"""wav2vec 2.0 with CTC: a transformer over learned features of the raw waveform, pretrained without texts.

A. Baevski et al., "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations" (arXiv 2006.11477);
the fine-tuning is that of its section 4.3. The network is that of the library transformers (the extra ``hf``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from auriscope.errors import AuriscopeError
from auriscope.nn.masks import choice, length_mask
from auriscope.recognition.recognizer import Encoded, Recognizer
from auriscope.signal.features import RawWaveform
from auriscope.text.tokenizer import BLANK, EOS, UNKNOWN, Tokenizer, TokenKind

ConvNorm = Literal["group", "layer"]
Frozen = Literal["nothing", "features", "encoder"]
LETTERS = " ETAONIHSRDLUMWCFGYPBVK'XJQZ"
"""The characters of the published English models, in their order."""


@dataclass(frozen=True)
class Wav2Vec2Config:
    """The configuration of wav2vec 2.0; the defaults are BASE of the paper, fine-tuned on LibriSpeech.

    Args:
        sample_rate: in hertz.
        tokens: what CTC writes.
        token_kind: see :class:`~auriscope.text.tokenizer.Tokenizer`, as are the numbers of the special tokens.
        token_scores: of pieces.
        blank_id: CTC's blank.
        bos_id: beginning of a sentence; the network never writes it.
        eos_id: end of a sentence; the network never writes it.
        normalize: whether recordings are brought to zero mean and unit variance.
        conv_channels: of the convolutions that make features of the waveform.
        conv_kernels: their lengths.
        conv_strides: their steps, whose product is a frame.
        conv_bias: whether they have biases.
        conv_norm: "layer": over the channels, at every convolution; padding can be masked. "group": over time, at the
            first one alone; such models are trained without a mask, and hear padding.
        conv_activation: behind the convolutions, as transformers spells it.
        dim: channels of the transformer.
        num_layers: of the transformer.
        num_heads: of its attention.
        hidden_size: of its feed-forward layers.
        activation: between those.
        norm_first: whether it normalises before each part instead of behind it.
        position_kernel: length of the convolution that tells positions.
        position_groups: of that convolution.
        eps: of the normalisations.
        dropout: behind every part, and before the head.
        attention_dropout: in the attention's maps.
        activation_dropout: between the feed-forward layers.
        feature_dropout: behind the features.
        head_dropout: before the head.
        layer_drop: probability with which a layer is left out in training; not with ``layer_average``.
        mask_time_probability: share of the frames that are masked in training, in stretches that may overlap.
        mask_time_length: frames of a stretch.
        mask_feature_probability: share of the channels that are masked.
        mask_feature_length: channels of a stretch.
        layer_average: whether the head sees a learned weighted mean of what all layers give, not the last alone.
        freeze_features: whether the convolutions stay as they are in training.
        freeze_encoder_batches: for how many batches of training the head alone learns; -1: always.
    """

    sample_rate: int = 16_000
    tokens: tuple[str, ...] = (BLANK, "<s>", EOS, UNKNOWN, *LETTERS)
    token_kind: TokenKind = "characters"
    token_scores: tuple[float, ...] = ()
    blank_id: int = 0
    bos_id: int | None = 1
    eos_id: int | None = 2
    normalize: bool = True
    conv_channels: tuple[int, ...] = (512,) * 7
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    conv_norm: ConvNorm = "group"
    conv_activation: str = "gelu"
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_size: int = 3072
    activation: str = "gelu"
    norm_first: bool = False
    position_kernel: int = 128
    position_groups: int = 16
    eps: float = 1e-5
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    feature_dropout: float = 0.1
    head_dropout: float = 0.1
    layer_drop: float = 0.1
    mask_time_probability: float = 0.05
    mask_time_length: int = 10
    mask_feature_probability: float = 0.0
    mask_feature_length: int = 10
    layer_average: bool = False
    freeze_features: bool = True
    freeze_encoder_batches: int = 10_000

    def __post_init__(self) -> None:
        choice(self.conv_norm, get_args(ConvNorm), "conv_norm")
        sizes = {len(self.conv_channels), len(self.conv_kernels), len(self.conv_strides)}
        if len(sizes) > 1 or 0 in sizes:
            raise ValueError("conv_channels, conv_kernels and conv_strides must have one entry per convolution")
        if self.dim % self.num_heads or self.dim % self.position_groups:
            raise ValueError(f"dim {self.dim} must be a multiple of num_heads and of position_groups")


class Wav2Vec2(Recognizer, name="recognition/wav2vec2"):
    """Waveforms (batch, time) to CTC's logits (batch, frames, tokens), a frame for every 20 ms.

    In training the convolutions do not learn (``freeze_features``), and for the first batches the head alone does
    (``freeze_encoder_batches``); how many batches there were is part of the weights, so that a training that is taken
    up again goes on as it would have.
    """

    Config = Wav2Vec2Config
    Tiny: ClassVar[dict[str, Any]] = {
        "conv_channels": (16, 16),
        "conv_kernels": (40, 16),
        "conv_strides": (20, 16),
        "conv_norm": "layer",
        "dim": 16,
        "num_layers": 1,
        "num_heads": 2,
        "hidden_size": 32,
        "norm_first": True,
        "position_kernel": 8,
        "position_groups": 2,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feature_dropout": 0.0,
        "head_dropout": 0.0,
        "layer_drop": 0.0,
        "mask_time_probability": 0.0,
        "layer_average": True,
        "freeze_features": False,
        "freeze_encoder_batches": 0,
    }
    Published: ClassVar[dict[str, float]] = {
        "WER on LibriSpeech test-clean, BASE, without a language model (%)": 3.4,
        "WER on LibriSpeech test-clean, LARGE, pretrained on LibriVox, with a language model (%)": 1.8,
        "WER on LibriSpeech test-other, LARGE, pretrained on LibriVox, with a language model (%)": 3.3,
    }
    has_ctc = True
    batches: Tensor

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        self.maskable = config.conv_norm == "layer"
        self.front = RawWaveform(config.sample_rate)
        self.network = _network(config)
        self.layer_logits = nn.Parameter(torch.zeros(config.num_layers + 1)) if config.layer_average else None
        self.dropout = nn.Dropout(config.head_dropout)
        self.head = nn.Linear(config.dim, len(config.tokens))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokens of the configuration."""
        config = self.config
        return Tokenizer(
            config.tokens, config.token_kind, config.token_scores, config.blank_id, config.bos_id, config.eos_id
        )

    @property
    def frozen(self) -> Frozen:
        """What does not learn from the next batch: "nothing", the "features", or the whole "encoder"."""
        limit = self.config.freeze_encoder_batches
        if limit < 0 or int(self.batches) < limit:
            return "encoder"
        return "features" if self.config.freeze_features else "nothing"

    def freeze(self, stage: Frozen, num_batches: int = -1) -> None:
        """Begin a stage of training, which the configuration notes.

        "nothing": everything learns. "features": everything but the convolutions. "encoder": the head alone (with the
        weights of the layers, if they are averaged), for ``num_batches`` (-1: for good), and then what learnt before.
        """
        choice(stage, get_args(Frozen), "stage")
        changes: dict[str, Any] = {"freeze_encoder_batches": num_batches if stage == "encoder" else 0}
        if stage != "encoder":
            changes["freeze_features"] = stage == "features"
        self.config = dataclasses.replace(self.config, **changes)
        self.batches.zero_()

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The samples themselves, (batch, time, 1), at zero mean and unit variance, and their number (batch,)."""
        if self.config.normalize:
            features: tuple[Tensor, Tensor] = self.front(waveform, lengths)
            return features
        if lengths is None:
            lengths = torch.full((len(waveform),), waveform.shape[1], device=waveform.device)
        return (waveform * length_mask(lengths, waveform.shape[1]))[..., None], lengths

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Encode samples (batch, time, 1), of which ``frame_lengths`` (batch,) are valid.

        A model that is not ``maskable`` hears zeros behind the ends in training, as it did when it was made; otherwise
        recordings of equal length are encoded together, so that each gives what it gives alone.
        """
        frame_seconds = math.prod(self.config.conv_strides) / self.config.sample_rate
        different = bool((frame_lengths != features.shape[1]).any())
        if self.maskable or self.training or not different:
            counting = self.training and torch.is_grad_enabled()
            states, lengths = self._encode(features[..., 0], frame_lengths, masked=self.maskable and different)
            if counting:
                self.batches += 1
            return Encoded(states, lengths, frame_seconds)
        parts = []
        for length in sorted(set(frame_lengths.tolist())):
            rows = (frame_lengths == length).nonzero()[:, 0]
            parts.append((rows, *self._encode(features[rows, :length, 0], frame_lengths[rows], masked=False)))
        states = features.new_zeros(len(features), max(part.shape[1] for _, part, _ in parts), self.config.dim)
        lengths = torch.zeros_like(frame_lengths)
        for rows, part, number in parts:
            states[rows, : part.shape[1]] = part
            lengths[rows] = number
        return Encoded(states, lengths, frame_seconds)

    def ctc_logits(self, encoded: Encoded) -> Tensor:
        """Logits (batch, frames, tokens)."""
        logits: Tensor = self.head(self.dropout(encoded.states))
        return logits

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """CTC logits (batch, frames, tokens) of waveforms (batch, time)."""
        return self.ctc_logits(self.encode(waveform, lengths))

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Number of frames (batch,) of so many samples: of windows that lie within the recording."""
        for kernel, stride in zip(self.config.conv_kernels, self.config.conv_strides, strict=True):
            lengths = ((lengths - kernel).div(stride, rounding_mode="floor") + 1).clamp_min(0)
        return lengths

    def _encode(self, waveform: Tensor, lengths: Tensor, *, masked: bool) -> tuple[Tensor, Tensor]:
        frozen = self.frozen if self.training else "nothing"
        frame_lengths = self.num_frames(lengths)
        shortest = self._shortest
        if waveform.shape[1] < shortest:
            waveform = nn.functional.pad(waveform, (0, shortest - waveform.shape[1]))
        with torch.no_grad() if frozen != "nothing" else nullcontext():
            features = self.network.feature_extractor(waveform).transpose(1, 2)
        with torch.no_grad() if frozen == "encoder" else nullcontext():
            hidden, _ = self.network.feature_projection(features)
            hidden = self._masked(hidden, frame_lengths)
            valid = length_mask(frame_lengths, hidden.shape[1])
            with self._watched() as layers:
                states = self.network.encoder(hidden, attention_mask=valid if masked else None).last_hidden_state
        if self.layer_logits is not None:
            # The last layer's own normalisation, if it has one, is for what leaves the encoder.
            weights = self.layer_logits.softmax(0)
            states = sum(weight * layer for weight, layer in zip(weights, [*layers, states], strict=True))
        return (states * valid[..., None] if masked else states), frame_lengths

    @cached_property
    def _shortest(self) -> int:
        """Samples of one frame."""
        samples = 1
        for kernel, stride in zip(reversed(self.config.conv_kernels), reversed(self.config.conv_strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    @contextmanager
    def _watched(self) -> Iterator[list[Tensor]]:
        """Note what goes into every layer, if the layers are averaged."""
        seen: list[Tensor] = []

        def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen.append(inputs[0])

        layers = self.network.encoder.layers if self.layer_logits is not None else ()
        handles = [layer.register_forward_pre_hook(note) for layer in layers]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    def _masked(self, hidden: Tensor, frame_lengths: Tensor) -> Tensor:
        """In training, put a learned vector in the place of stretches of frames, and zeros in that of channels."""
        config = self.config
        if not self.training:
            return hidden
        if config.mask_time_probability > 0.0:
            spans = span_mask(frame_lengths, hidden.shape[1], config.mask_time_probability, config.mask_time_length)
            hidden = torch.where(spans[..., None], self.network.masked_spec_embed.to(hidden), hidden)
        if config.mask_feature_probability > 0.0:
            channels = torch.full((len(hidden),), hidden.shape[2], device=hidden.device)
            spans = span_mask(channels, hidden.shape[2], config.mask_feature_probability, config.mask_feature_length)
            hidden = hidden * ~spans[:, None]
        return hidden


def span_mask(lengths: Tensor, size: int, probability: float, width: int) -> Tensor:
    """Choose stretches of ``width`` entries at random, a mask (batch, size) that is True in them.

    Of ``lengths`` (batch,) valid entries, stretches cover the share ``probability`` before they overlap; their number
    is rounded at random. As of the paper's appendix B, starts are uniform. Drawn on the CPU.
    """
    device, lengths = lengths.device, lengths.cpu()
    number = (probability * lengths / width + torch.rand(len(lengths))).floor()
    most = int(number.max())
    starts = (torch.rand(len(lengths), most) * (lengths - width + 1).clamp_min(1)[:, None]).floor()[..., None]
    used = (torch.arange(most) < number[:, None])[..., None]
    places = torch.arange(size)
    return ((places >= starts) & (places < starts + width) & used).any(1).to(device)


def _network(config: Wav2Vec2Config) -> Any:
    """Make the network of transformers, with random weights."""
    try:
        import transformers
    except ImportError as error:
        raise AuriscopeError(
            "wav2vec 2.0 needs the library transformers; install the extra with: pip install 'auriscope[hf]'"
        ) from error
    return transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(
            hidden_size=config.dim,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.hidden_size,
            hidden_act=config.activation,
            hidden_dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            activation_dropout=config.activation_dropout,
            feat_proj_dropout=config.feature_dropout,
            layerdrop=0.0 if config.layer_average else config.layer_drop,
            layer_norm_eps=config.eps,
            conv_dim=list(config.conv_channels),
            conv_kernel=list(config.conv_kernels),
            conv_stride=list(config.conv_strides),
            conv_bias=config.conv_bias,
            feat_extract_norm=config.conv_norm,
            feat_extract_activation=config.conv_activation,
            do_stable_layer_norm=config.norm_first,
            num_conv_pos_embeddings=config.position_kernel,
            num_conv_pos_embedding_groups=config.position_groups,
            mask_time_prob=config.mask_time_probability,
            mask_feature_prob=config.mask_feature_probability,
            # The masks of training are drawn here, from torch's random numbers.
            apply_spec_augment=False,
        )
    )
