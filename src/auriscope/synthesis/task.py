"""Training what speaks: synthesisers, on texts and mels; vocoders in :mod:`~auriscope.synthesis.vocoder_task`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auriscope.data.speech_pairs import SpeechPairs, SpeechPairsConfig
from auriscope.errors import RecipeError
from auriscope.pretrained.addresses import load
from auriscope.signal.rates import resample_array
from auriscope.synthesis import vocoder_task
from auriscope.synthesis.attention import attention_report, diagonality
from auriscope.synthesis.speaking import alphabet
from auriscope.synthesis.synthesizer import Distance, Synthesizer
from auriscope.synthesis.vocoder import Vocoder
from auriscope.text.alphabet import in_alphabet
from auriscope.text.phonemes import phonemes
from auriscope.text.spoken import speakable
from auriscope.training.recipe import Recipe, build_model, parse
from auriscope.training.task import Batch


@dataclass(frozen=True)
class SynthesisOptions:
    """What a recipe may say about the losses, see :meth:`~auriscope.synthesis.synthesizer.Synthesizer.losses`.

    ``guided_width`` is g of guided attention. The attention is guided in the first ``guided_batches``; None: always.
    With an ``aligner``, the address of a recogniser of letters with CTC, it is guided to the letters that this one
    hears in each frame, ``aligned_width`` of them wide, and not along the diagonal. In the first ``forced_batches`` the
    decoder also looks there, and the attention learns beside it: teacher forcing, of the attention as of the frames.
    """

    distance: Distance = "squared"
    stop_weight: float = 5.0
    guided_weight: float = 1.0
    guided_width: float = 0.2
    guided_batches: int | None = None
    aligner: str = ""
    aligned_width: float = 2.0
    forced_batches: int = 0


@dataclass(frozen=True)
class SynthesisValidation:
    """Which utterances choose the weights: the first ``max_items`` of a split.

    ``corpora``, ``prepared`` and ``speakers`` are those of the training data unless they are given.
    """

    corpora: tuple[str, ...] | None = None
    prepared: str | None = None
    speakers: tuple[str, ...] | None = None
    split: str = "valid"
    batch_size: int = 8
    max_items: int | None = 32


class SynthesisTask(nn.Module):
    """A synthesiser that is told the frames before each, and guided where to look."""

    selection_metric = "mel_error"
    higher_is_better = False

    batches_seen: Tensor

    def __init__(self, model: Synthesizer, options: SynthesisOptions | None = None) -> None:
        super().__init__()
        self.model = model
        self.options = options or SynthesisOptions()
        # In the state, so that a resumed run knows when its guide leaves.
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.int64))

    def phases(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """One phase, over all parameters."""
        return {"main": self.model.parameters()}

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:  # noqa: ARG002
        """The losses of a batch."""
        options, model = self.options, self.model
        tokens, token_lengths = model.batch_texts(batch["text"])
        mel, frame_lengths = batch["mel"], batch["frame_lengths"]
        paths, number = batch.get("path"), int(self.batches_seen)
        forced = paths if number < options.forced_batches else None
        spoken = model(tokens, token_lengths, mel, frame_lengths, batch.get("voice"), forced)
        guided = options.guided_batches is None or number < options.guided_batches
        if self.training:
            self.batches_seen += 1
        losses: dict[str, Tensor] = model.losses(
            spoken,
            mel,
            token_lengths,
            frame_lengths,
            distance=options.distance,
            stop_weight=options.stop_weight,
            guided_weight=options.guided_weight if guided else 0.0,
            guided_width=options.guided_width,
            paths=paths,
            aligned_width=options.aligned_width,
        )
        return losses

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Metrics of each utterance, (batch,).

        ``mel_error`` is the mean absolute difference of the refined log-mels, the model being told the frames before,
        and where to look if it learns so, and ``focus`` how sharp its attention is then; ``attention_ok`` is 1 where it
        spoke the text by itself, read it once from its beginning to its end and stopped.
        """
        model = self.model
        tokens, token_lengths = model.batch_texts(batch["text"])
        mel, frame_lengths, voice = batch["mel"], batch["frame_lengths"], batch.get("voice")
        spoken = model(tokens, token_lengths, mel, frame_lengths, voice, batch.get("path"))
        valid = torch.arange(mel.shape[1], device=mel.device) < frame_lengths[:, None]
        apart = (spoken.refined.float() - mel).abs().mean(-1)
        said = model.generate(tokens, token_lengths, voice, generator=torch.Generator().manual_seed(0))
        report = attention_report(said.attention, token_lengths, said.frame_lengths)
        return {
            "mel_error": (apart * valid).sum(1) / frame_lengths,
            "focus": diagonality(spoken.attention.float(), frame_lengths),
            "attention_ok": (report.ok & said.stopped).float(),
        }


def build(recipe: Recipe) -> tuple[Any, Any, Iterable[Batch]]:
    """Make a recipe's task, training batches and validation batches; ``RecipeError`` if they do not fit together."""
    model = build_model(recipe)
    if isinstance(model, Vocoder):
        return vocoder_task.build(recipe, model)
    if not isinstance(model, Synthesizer):
        raise RecipeError(f"model.architecture: {recipe.model.architecture} does not speak")
    config = model.config
    data = parse(SpeechPairsConfig, {"sample_rate": config.sample_rate, **recipe.data}, "data")
    validation = parse(SynthesisValidation, recipe.validation, "validation")
    measured: dict[str, Any] = {**recipe.data, "sample_rate": config.sample_rate}
    for name in ("corpora", "prepared", "speakers"):
        if (value := getattr(validation, name)) is not None:
            measured[name] = value
    if validation.corpora is not None and validation.prepared is None:
        measured.pop("prepared", None)
    measured.pop("phrase_seconds", None)
    options = parse(SynthesisOptions, recipe.task_options, "task_options")
    if options.forced_batches and not (options.aligner and model.takes_paths):
        raise RecipeError("task_options.forced_batches needs an aligner, and a model that can be told where to look")
    align = aligner(options.aligner, model)
    write, embed = writer(model), voice_of(config.voice_model, config.voice_dim, config.sample_rate)
    num_threads = min(4, max(1, (os.cpu_count() or 2) - 1))
    batches = SpeechPairs(
        data, config.mel, seed=recipe.seed, write=write, embed=embed, align=align, num_threads=num_threads
    )
    heard = SpeechPairs(
        parse(SpeechPairsConfig, measured, "validation"),
        config.mel,
        seed=recipe.seed,
        write=write,
        embed=embed,
        # What is told while learning is told when it is asked what was learnt.
        align=align if options.forced_batches else None,
        split=validation.split,
    )
    task = SynthesisTask(model, options)
    return task, batches, heard.fixed(validation.batch_size, validation.max_items)


def writer(model: Synthesizer) -> Callable[[str], str]:
    """What turns the texts of a corpus into what a synthesiser reads: words in its letters, or phonemes.

    Texts in capitals alone, as some corpora have them, are no initials and are written small. A text of which nothing
    can be written becomes "".
    """
    letters, known = alphabet(model), frozenset("".join(model.config.tokens))

    def write(text: str) -> str:
        said = speakable(text.lower() if text.isupper() else text)
        if letters is None:
            return "".join(sign for sign in phonemes(said) if sign in known)
        return in_alphabet(said, letters)[0]

    return write


def voice_of(address: str, voice_dim: int, sample_rate: int) -> Callable[[NDArray[np.float32]], Tensor] | None:
    """What turns a clip (time,) into the embedding of its voice by the speaker model at ``address``; None: no voices.

    ``RecipeError`` where there are voices and no model, or one of embeddings of another size.
    """
    if not voice_dim:
        return None
    if not address:
        raise RecipeError("model.config has a voice_dim, but no voice_model whose embeddings the voices are")
    embedder: Any = load(address)
    if not hasattr(embedder, "embed") or embedder.dim != voice_dim:
        raise RecipeError(f"model.config.voice_model: {address} gives no embeddings of {voice_dim} numbers")
    rate = int(embedder.config.sample_rate)

    def embed(waveform: NDArray[np.float32]) -> Tensor:
        with torch.no_grad():
            embedding: Tensor = embedder.embed(_at(rate, waveform, sample_rate)[None])[0]
        return embedding

    return embed


def aligner(
    address: str, model: Synthesizer
) -> Callable[[NDArray[np.float32], str], Sequence[tuple[int, float]]] | None:
    """What tells when the letters of a text were said in a clip (time,), by the recogniser at ``address``; "": None.

    ``RecipeError`` where that is no recogniser of letters, or the synthesiser does not read letters one by one.
    """
    if not address:
        return None
    if alphabet(model) is None or model.config.token_kind != "characters":
        raise RecipeError("task_options.aligner: only letters can be aligned, and the model reads something else")
    recognizer: Any = load(address)
    if not getattr(recognizer, "has_ctc", False) or recognizer.config.token_kind != "characters":
        raise RecipeError(f"task_options.aligner: {address} is no recogniser of letters with CTC")
    rate, sample_rate = int(recognizer.config.sample_rate), model.config.sample_rate

    def align(waveform: NDArray[np.float32], text: str) -> Sequence[tuple[int, float]]:
        times: list[tuple[int, float]] = recognizer.letter_times(_at(rate, waveform, sample_rate), text)
        return times

    return align


def _at(rate: int, waveform: NDArray[np.float32], sample_rate: int) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(resample_array(waveform, sample_rate, rate)))
