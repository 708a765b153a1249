"""Training a CLAP: each sound is to find its caption in the batch and each caption its sound, chosen by others."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.crossmodal.bert import BertConfig, read_bert
from auriscope.crossmodal.clap import CLAP, CLAPConfig, CrossModal
from auriscope.crossmodal.losses import clap_loss, encode_in_chunks, gathered
from auriscope.crossmodal.text import TextEncoder, words_of
from auriscope.crossmodal.unpaired import soft_clap_loss
from auriscope.crossmodal.words import read_vectors
from auriscope.crossmodal.zeroshot import TEMPLATES, prompt_embedding, prompts_of
from auriscope.data.captioned import PHRASES, CaptionedBatches, CaptionedConfig, CaptionedSet, filled
from auriscope.data.labelled import LabelledSet
from auriscope.errors import AuriscopeError, CheckpointError, RecipeError
from auriscope.pretrained.addresses import load
from auriscope.signal.features import spec_augment
from auriscope.training.recipe import ModelRecipe, Recipe, build_model, parse
from auriscope.training.task import Batch

_TOGETHER = 32


@dataclass(frozen=True)
class CLAPOptions:
    """What a recipe may say about the beginning, the loss, and what is done to a batch before it.

    Args:
        words_from: where the words with vectors come from: the address of a CLAP that has some, or a file of vectors
            (:mod:`auriscope.crossmodal.words`). By default those of ``init_from``, if that is given.
        num_words: of a file, the most frequent words that are kept.
        word_dim: of a file, the length of the vectors.
        text_from: the folder or address of a BERT, in transformers' layout: what the text encoder ``bert`` begins as.
            By default the one of ``init_from``, if that is given.
        audio_from: the address of a CLAP, or of a model whose parts are named as those of the audio encoder, such as a
            ``classification/cnn``: its audio encoder is what this one's begins as.
        chunk_size: above 0, so many pairs are encoded at once, however large the batch
            (:func:`~auriscope.crossmodal.losses.encode_in_chunks`).
        same_captions: what pairs of a batch with the same caption are to each other: "right", or "wrong", as in the
            paper, where there are hardly any.
        num_mel_masks: bands of mels that SpecAugment blanks in every sound.
        max_mel_width: the widest of them, in mels.
        num_time_masks: stretches of time that it blanks.
        max_time_width: the longest of them, in frames.
        teacher: the address of a frozen model whose embeddings of a batch soften what is right, in the loss of
            :func:`~auriscope.crossmodal.unpaired.soft_clap_loss`; captions that say the same are then its business.
        beta: how much they do.
        normalised: whether the targets of a sound, and of a caption, sum to one, which published they do not.
        select_by: by what the best weights are chosen: "reciprocal_rank" of the first right caption of a sound,
            or "accuracy_percent" of zero-shot classification.
    """

    words_from: str | None = None
    num_words: int = 8000
    word_dim: int = 64
    text_from: str | None = None
    audio_from: str | None = None
    chunk_size: int = 0
    same_captions: Literal["right", "wrong"] = "right"
    num_mel_masks: int = 0
    max_mel_width: int = 8
    num_time_masks: int = 0
    max_time_width: int = 40
    teacher: str | None = None
    beta: float = 0.3
    normalised: bool = False
    select_by: Literal["reciprocal_rank", "accuracy_percent"] = "reciprocal_rank"

    def __post_init__(self) -> None:
        numbers = (self.num_words, self.word_dim, self.chunk_size, self.num_mel_masks, self.max_mel_width)
        if min(*numbers, self.num_time_masks, self.max_time_width) < 0:
            raise RecipeError("task_options: numbers, sizes and widths must not be negative")
        if not 0.0 <= self.beta <= 1.0:
            raise RecipeError(f"task_options.beta must lie between 0 and 1, not {self.beta}")


@dataclass(frozen=True)
class CLAPValidation:
    """On what the weights are chosen: a set of captioned sounds, and a set of classes (None: none)."""

    set: str = "sound-captions"
    classes: str | None = "sound-events"
    split: str = "valid"


class CLAPTask(nn.Module):
    """The contrastive loss of pairs; the ranks of captions, and zero-shot accuracy, of others."""

    higher_is_better = True

    def __init__(self, model: CLAP, options: CLAPOptions | None = None, teacher: CrossModal | None = None) -> None:
        super().__init__()
        self.model, self.options = model, options or CLAPOptions()
        # It is no part of what is trained, nor of what a checkpoint holds.
        self._teachers: tuple[CrossModal, ...] = () if teacher is None else (teacher.eval().requires_grad_(False),)
        self.selection_metric: str = self.options.select_by

    def phases(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """One phase, over all parameters that learn."""
        return {"main": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:  # noqa: ARG002
        """The loss of a batch, over all processes, and how often a sound's nearest caption is its own."""
        audio, text = self.embed(batch)
        same = None
        if self.options.same_captions == "right":
            same = gathered(read_as(self.model, batch["captions"]).to(audio.device))
        audio, text = gathered(audio), gathered(text)
        scale = self.model.logit_scale
        loss = self._soft_loss(batch, audio, text) if self._teachers else clap_loss(audio, text, scale, same)
        with torch.no_grad():
            nearest = (audio @ text.mT).argmax(1)
            numbers = torch.arange(len(audio), device=audio.device) if same is None else same
            right = (numbers[nearest] == numbers).float().mean()
        return {"loss": loss, "accuracy": right, "scale": scale}

    def _soft_loss(self, batch: Batch, audio: Tensor, text: Tensor) -> Tensor:
        """The loss of all processes' pairs by what the teacher finds alike among them; it hears what is not blanked."""
        (teacher,) = self._teachers
        teacher.to(audio.device)
        with torch.no_grad():
            heard = gathered(teacher.embed_audio(batch["waveform"], batch["lengths"]))
            read = gathered(teacher.embed_text(batch["captions"]))
        options = self.options
        return soft_clap_loss(
            *(audio, text, self.model.logit_scale, heard, read), beta=options.beta, normalised=options.normalised
        )

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings (pairs, dim) of unit length of the sounds of a batch, partly blanked, and of its captions."""
        tokens, token_lengths = (each.to(batch["waveform"].device) for each in self.model.tokenize(batch["captions"]))
        size = self.options.chunk_size or len(tokens)
        audio = encode_in_chunks(self._audio, (batch["waveform"], batch["lengths"]), size, module=self.model)
        text = encode_in_chunks(self.model.embed_tokens, (tokens, token_lengths), size, module=self.model)
        return audio, text

    def _audio(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        options, model = self.options, self.model
        if not self.training or options.num_mel_masks == options.num_time_masks == 0:
            return model.embed_audio(waveform, lengths)
        features, frame_lengths = model.front(waveform, lengths)
        # What is blanked is as the quietest of the sound.
        quietest = features.amin((1, 2), keepdim=True)
        blanked = quietest + spec_augment(
            features - quietest,
            frame_lengths,
            num_mel_masks=options.num_mel_masks,
            max_mel_width=options.max_mel_width,
            num_time_masks=options.num_time_masks,
            max_time_width=options.max_time_width,
        )
        known = None if bool((lengths == waveform.shape[1]).all()) else frame_lengths
        return F.normalize(model.encode_features(blanked, known).float(), dim=-1)

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Of a set of captioned sounds, or of labelled ones, the figures of each sound; of each the first window."""
        if "captioned" in batch:
            return caption_ranks(self.model, batch["captioned"])
        sounds: LabelledSet = batch["labelled"]
        classes = prompt_embedding(self.model, [prompts_of(label, TEMPLATES, PHRASES) for label in sounds.labels])
        scores = first_windows(self.model, sounds) @ classes.mT
        right = scores.argmax(1).cpu() == torch.tensor(sounds.numbers)
        return {"accuracy_percent": 100.0 * right.float()}


def read_as(model: CrossModal, captions: Sequence[str]) -> Tensor:
    """A number (captions,) for each, in any process the same exactly for those that a model reads alike."""
    rows = zip(*model.tokenize(captions), strict=True)
    return torch.tensor([zlib.crc32(row[:length].numpy().tobytes()) for row, length in rows])


@torch.no_grad()
def first_windows(model: CrossModal, sounds: CaptionedSet | LabelledSet) -> Tensor:
    """Embeddings (sounds, dim) of the first window of each sound."""
    num_frames = round(model.window_seconds * model.sample_rate)
    parts = []
    for first in range(0, len(sounds), _TOGETHER):
        own = [sounds[number].waveform for number in range(first, min(first + _TOGETHER, len(sounds)))]
        waveform = torch.stack([torch.from_numpy(filled(each, num_frames, model.fill)) for each in own])
        parts.append(model.embed_audio(waveform.to(model.device)))
    return torch.cat(parts)


@torch.no_grad()
def caption_ranks(model: CrossModal, sounds: CaptionedSet) -> dict[str, Tensor]:
    """How the captions of a set rank for each of its sounds: (sounds,), of the first one that is right.

    ``reciprocal_rank`` is 1 over its rank among all different captions, ``recall_at_1_percent`` and so on 100 where the
    rank is within so many.
    """
    texts = sounds.texts()
    scores = first_windows(model, sounds).cpu() @ model.embed_texts(texts).mT
    numbers = {text: number for number, text in enumerate(texts)}
    ranks = []
    for row, own in zip(scores, sounds.captions, strict=True):
        right = torch.zeros(len(row), dtype=torch.bool)
        right[[numbers[caption] for caption in own]] = True
        # What is as near, or no number, comes first: who puts everything in one place finds nothing.
        ranks.append(int((~(row[~right] < row[right].max())).sum()) + 1)
    rank = torch.tensor(ranks, dtype=torch.float32)
    recalls = {f"recall_at_{most}_percent": 100.0 * (rank <= most).float() for most in (1, 5, 10)}
    return {"reciprocal_rank": 1.0 / rank, **recalls}


def build(recipe: Recipe) -> tuple[CLAPTask, CaptionedBatches, Iterable[Batch]]:
    """Make a recipe's task, training batches and validation batches; ``RecipeError`` if they do not fit together.

    ``data`` is a :class:`~auriscope.data.captioned.CaptionedConfig`, whose rate, window and filling up are the model's.
    """
    options = parse(CLAPOptions, recipe.task_options, "task_options")
    batches = paired_batches(recipe)
    captions = [caption for clip in batches.clips for caption in clip.captions]
    model = make_model(recipe, options, captions)
    try:
        # Now, and not in the middle of the training.
        model.tokenize(captions)
    except AuriscopeError as error:
        raise RecipeError(f"data: {error}") from error
    heard = validation_batches(recipe, batches.config, model.sample_rate)
    return CLAPTask(model, options, _teacher(options, model)), batches, heard


def _teacher(options: CLAPOptions, model: CLAP) -> CrossModal | None:
    """The teacher that the options name; ``RecipeError`` if it is none, or hears otherwise than the model."""
    if options.teacher is None:
        return None
    try:
        teacher = load(options.teacher)
    except CheckpointError as error:
        raise RecipeError(f"task_options.teacher: {error}") from error
    if not isinstance(teacher, CrossModal):
        raise RecipeError(f"task_options.teacher: {options.teacher} does not match sounds with texts")
    for name in ("sample_rate", "window_seconds", "fill"):
        own, its = getattr(model, name), getattr(teacher, name)
        if own != its:
            raise RecipeError(f"task_options.teacher: its {name} is {its}, the model's {own}: give both the same")
    return teacher


def untrained(recipe: Recipe) -> CLAP:
    """Make a recipe's model with the words that its training found, as :func:`build` does."""
    options = dataclasses.replace(parse(CLAPOptions, recipe.task_options, "task_options"), audio_from=None)
    return make_model(recipe, options, [caption for clip in paired_batches(recipe).clips for caption in clip.captions])


def paired_batches(recipe: Recipe) -> CaptionedBatches:
    """The annotated pairs that a recipe learns from, as its model hears them."""
    config = _config(recipe)
    own = {"sample_rate": config.sample_rate, "window_seconds": config.window_seconds, "fill": config.fill}
    data = parse(CaptionedConfig, {**own, **recipe.data}, "data")
    for name, value in own.items():
        if getattr(data, name) != value:
            raise RecipeError(f"data.{name} is {getattr(data, name)}, the model's {value}: leave it out of data")
    return CaptionedBatches(data, seed=recipe.seed, num_threads=min(8, max(1, (os.cpu_count() or 2) - 1)))


def validation_batches(recipe: Recipe, data: CaptionedConfig, sample_rate: int) -> list[Batch]:
    """What a recipe's weights are chosen by: a set of captioned sounds, and a set of labelled ones.

    What the training leaves out is left out of the former, too.
    """
    validation = parse(CLAPValidation, recipe.validation, "validation")
    if validation.classes is None and recipe.task_options.get("select_by") == "accuracy_percent":
        raise RecipeError("validation.classes: name a set of classes, by whose accuracy task_options.select_by chooses")
    captioned = CaptionedSet(
        validation.set,
        validation.split,
        sample_rate=sample_rate,
        leave_out=data.leave_out,
        leave_out_words=data.leave_out_words,
    )
    heard: list[Batch] = [{"captioned": captioned, "id": [clip.name for clip in captioned.clips]}]
    if validation.classes is not None:
        labelled = LabelledSet(validation.classes, validation.split, sample_rate=sample_rate)
        heard.append({"labelled": labelled, "id": [f"{labelled.name} {number}" for number in range(len(labelled))]})
    return heard


def make_model(recipe: Recipe, options: CLAPOptions, captions: Sequence[str]) -> CLAP:
    """Build a recipe's CLAP, with the words or the BERT and the audio encoder that the options ask for.

    Of a file of vectors, the words of ``captions`` are kept, however rare.
    """
    config = _config(recipe)
    changes: dict[str, Any] = {}
    vectors: Tensor | None = None
    bert: dict[str, Tensor] = {}
    words_from, text_from = options.words_from or recipe.init_from, options.text_from or recipe.init_from
    if config.text_encoder == "transformer" and words_from is not None:
        words, vectors = _words(words_from, options, captions)
        changes["text"] = {**recipe.model.config.get("text", {}), "words": words, "vector_dim": vectors.shape[1]}
    elif config.text_encoder == "bert" and text_from is not None:
        found, bert = _bert(text_from, from_clap=options.text_from is None)
        changes["bert"] = {**dataclasses.asdict(found), **recipe.model.config.get("bert", {})}
    elif config.text_encoder == "bert":
        raise RecipeError("task_options.text_from: name the folder or address of a BERT, whose words are read")
    values: dict[str, Any] = {**recipe.model.config, **changes}
    model: CLAP = build_model(dataclasses.replace(recipe, model=ModelRecipe(recipe.model.architecture, values)))
    if isinstance(model.text, TextEncoder) and vectors is not None:
        model.text.set_vectors(vectors)
    elif bert:
        try:
            model.text.load_state_dict(bert)
        except RuntimeError as error:
            raise RecipeError(
                f"task_options.text_from: the weights of {text_from} are not whole, or no BERT's"
            ) from error
    if options.audio_from is not None:
        _begin_as(model, options.audio_from)
    return model


def _bert(address: str, *, from_clap: bool) -> tuple[BertConfig, dict[str, Tensor]]:
    """A BERT's configuration and weights; those of a CLAP come with all its others."""
    try:
        if not from_clap:
            return read_bert(address)
        model = load(address)
    except CheckpointError as error:
        raise RecipeError(f"task_options.text_from: {error}") from error
    if not isinstance(model, CLAP):
        raise RecipeError(f"init_from: {address} is not a {CLAP.name}")
    return model.config.bert, {}


def _config(recipe: Recipe) -> CLAPConfig:
    if recipe.model.architecture != CLAP.name:
        raise RecipeError(f"model.architecture: {recipe.model.architecture} is not {CLAP.name}, which is trained here")
    return parse(CLAPConfig, recipe.model.config, "model.config")


def _words(words_from: str, options: CLAPOptions, captions: Sequence[str]) -> tuple[tuple[str, ...], Tensor]:
    """Words, and their vectors (words, dim)."""
    if Path(words_from).is_file():
        wanted = {word for caption in captions for word in words_of(caption)}
        words, vectors = read_vectors(
            Path(words_from), num_words=options.num_words, dim=options.word_dim, wanted=sorted(wanted)
        )
        return words, torch.from_numpy(vectors)
    if words_from.endswith((".json", ".txt")):
        raise RecipeError(
            f"task_options.words_from: {words_from} is not there; bring a file of GloVe's vectors "
            "(docs/systems/clap.md), or name a CLAP that has words"
        )
    try:
        model = load(words_from)
    except CheckpointError as error:
        raise RecipeError(f"task_options.words_from: {error}") from error
    if not isinstance(model, CLAP) or not isinstance(model.text, TextEncoder):
        raise RecipeError(f"task_options.words_from: {words_from} is no {CLAP.name} with words, nor a file of vectors")
    return model.config.text.words, model.text.vectors[1:]


def _begin_as(model: CLAP, address: str) -> None:
    """Let the audio encoder begin as another model's; ``RecipeError`` if that has none of its shape."""
    try:
        other = load(address)
    except CheckpointError as error:
        raise RecipeError(f"task_options.audio_from: {error}") from error
    weights = (other.audio if isinstance(other, CLAP) else other).state_dict()
    own = model.audio.state_dict()
    if not all(name in weights and weights[name].shape == value.shape for name, value in own.items()):
        raise RecipeError(
            f"task_options.audio_from: the weights of {address} do not fit the audio encoder; see model.config.audio"
        )
    model.audio.load_state_dict({name: weights[name] for name in own})
