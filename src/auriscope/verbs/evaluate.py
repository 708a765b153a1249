"""``evaluate``: how good a model is on the fixed evaluation sets, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

from auriscope.classification.classifier import Classifier
from auriscope.crossmodal.clap import CrossModal
from auriscope.crossmodal.zeroshot import TEMPLATES
from auriscope.data.evaluation import evaluation_set
from auriscope.data.items import EvaluationItem, EvaluationSet
from auriscope.data.prepared_set import PreparedSet
from auriscope.data.sentences import SentenceSet
from auriscope.data.transcribed import spoken_set
from auriscope.data.voices import trials
from auriscope.errors import AuriscopeError
from auriscope.interpretation import TrainedInterpreter
from auriscope.metrics.accumulate import summarize
from auriscope.metrics.improvement import sdri, si_snri
from auriscope.metrics.perceptual import Band, PerceptualScores, pesq, stoi
from auriscope.metrics.pit import permute, pit_si_snr
from auriscope.pretrained import load
from auriscope.quality.windows import predict_long
from auriscope.recognition.decoding import DecodingOptions
from auriscope.recognition.recognizer import Recognizer
from auriscope.separation.long import LongConfig, separate_waveform
from auriscope.separation.task import OwnMetrics
from auriscope.signal.resampling import resample
from auriscope.speaker.embedder import Embedder
from auriscope.synthesis.synthesizer import Synthesizer
from auriscope.verbs.classification_figures import classification_figures
from auriscope.verbs.defaults import require_separator
from auriscope.verbs.explain.methods import load_method
from auriscope.verbs.interpretation_figures import evaluated
from auriscope.verbs.interpretation_sets import Examples
from auriscope.verbs.language_models import open_language_model, with_language_model
from auriscope.verbs.recognition_figures import recognition_figures
from auriscope.verbs.retrieval_figures import holds_captions, retrieval_figures
from auriscope.verbs.speaker_figures import speaker_figures
from auriscope.verbs.stems import stem_figures
from auriscope.verbs.synthesis_figures import synthesis_figures
from auriscope.verbs.zeroshot_figures import zero_shot_figures

OnProgress = Callable[[float], None]
_NUM_RESAMPLES = 2000
_ROOMS = (
    *("separation", "quality", "recognition", "speaker", "synthesis"),
    *("classification", "crossmodal", "interpretation"),
)
_LONGEST_CHUNK_SECONDS = 30.0


@dataclass(frozen=True)
class Figure:
    """A figure with the ends of its 95 % bootstrap interval, mixtures resampled; ``None`` where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class EvaluationResult:
    """Figures of one model on one set, of ``num_mixtures`` mixtures, utterances, sentences, trials or sounds.

    Units are in the figures' names. ``separators`` are what made the tracks that a quality model judged, empty for a
    separation model.
    """

    set: str
    split: str
    model: str
    separators: tuple[str, ...]
    num_mixtures: int
    figures: dict[str, Figure]


def evaluate(
    model: str,
    set_name: str,
    *,
    split: str = "test",
    separators: Sequence[str] = (),
    decoding: DecodingOptions | None = None,
    language_model: str | None = None,
    lm_weight: float | None = None,
    fold: int | None = None,
    templates: Sequence[str] = (),
    offline: bool | None = None,
    on_progress: OnProgress | None = None,
) -> EvaluationResult:
    """Evaluate a model on an evaluation set, or on a prepared folder in its place.

    A separation model is run as ``separate`` runs it and gets SI-SNR, SI-SNRi and SDRi in dB of the sources in their
    best order, a mixture's value being the mean over its sources; of stems, whose order is fixed, the SDR of each
    (:func:`~auriscope.verbs.stems.stem_figures`). A count head gets ``count_accuracy``, the share of mixtures of
    which it tells the number of talkers. A model of one source, an enhancer, gets PESQ (wide
    band; at 8 kHz narrow band), STOI and ESTOI as well, each with its gain over the mixture. A quality model judges
    the tracks of the ``separators`` against their true SI-SNR: Pearson's and Spearman's correlation over all tracks of
    all of them, the mean absolute error and the mean error in dB. A recogniser transcribes a set of utterances, and
    gets word and character error in per cent (:func:`~auriscope.verbs.recognition_figures.recognition_figures`); a
    speaker model verifies trials, and gets the equal error rate
    (:func:`~auriscope.verbs.speaker_figures.speaker_figures`). A synthesiser speaks what people said, and gets the
    share of sentences whose attention is in order, and what a recogniser hears beside the real recordings
    (:func:`~auriscope.verbs.synthesis_figures.synthesis_figures`). A classifier tells labelled sounds or images, and
    gets accuracy, balanced accuracy and F1 (:func:`~auriscope.verbs.classification_figures.classification_figures`).
    A model of sounds and texts tells labelled sounds by the names of their classes, and gets the same
    (:func:`~auriscope.verbs.zeroshot_figures.zero_shot_figures`); in captioned sounds it finds sounds by their captions
    and captions by their sounds (:func:`~auriscope.verbs.retrieval_figures.retrieval_figures`).
    An interpreter explains the classifier that it names on the same, and gets fidelity, faithfulness and what else
    there is (:func:`~auriscope.verbs.interpretation_figures.interpretation_figures`), and of mixtures, whose first
    class is asked for, by how much it brings that source out.

    Args:
        model: address of a separation, quality or speaker model, of a recogniser, a synthesiser, a classifier or
            an interpreter, or a model of sounds and texts.
        set_name: an evaluation set, such as ``"libri2mix-mini-clean"``, or a folder that ``prepare`` wrote, such as
            ``"manifests/wsj0-2mix"``; its mixtures are resampled to the model's rate. For a recogniser: a corpus with
            texts or connected digits (:func:`~auriscope.data.transcribed.spoken_set`), as they are or in noise and
            rooms (:mod:`auriscope.data.spoken`), such as ``"libri_eval50_flac-noisy"``. For a speaker model: trials
            (:mod:`auriscope.data.voices`), such as ``"libri-halves"``. For a synthesiser: a corpus with texts, or a
            prepared folder of transcribed speech (:class:`~auriscope.data.sentences.SentenceSet`). For a classifier:
            labelled sounds (:mod:`auriscope.data.labelled_sets`), such as ``"sound-events"``, or
            ``"sound-events-mixtures"``, or images (:mod:`auriscope.data.images`), such as ``"mnist"``. For an
            interpreter the same, and mixtures of images (:mod:`auriscope.data.labelled_mixtures`). For a model of
            sounds and texts labelled sounds, or captioned ones (:mod:`auriscope.data.captioned`), such as
            ``"sound-captions"``.
        split: ``"test"`` or ``"valid"``.
        separators: addresses of the separation models for a quality model.
        decoding: how a recogniser is decoded; times of words are never looked for.
        language_model: for a recogniser, an n-gram in a file or the address of a language model.
        lm_weight: of the language model in the score; None: the usual one
            (:func:`~auriscope.verbs.language_models.with_language_model`).
        fold: for a classifier or a model of sounds and texts, which fold of a prepared corpus with folds tests; for the
            latter, 0 are all of them.
        templates: for a model of sounds and texts, prompts for the classes
            (:class:`~auriscope.crossmodal.zeroshot.ZeroShotClassifier`).
        offline: forbids the network, also for an ``hf://`` address.
        on_progress: told the done fraction of the set, 0 to 1.

    Raises:
        AuriscopeError: no such model or set, no corpora, or a model and a set that do not fit.
    """
    network, notify = load(model, offline=offline), on_progress or _nothing
    room = network.name.split("/")[0]
    if room not in _ROOMS:
        raise AuriscopeError(
            f"{model}: is of the room {room!r}; give a separation, quality or speaker model, a recogniser, a "
            "synthesiser, a classifier, an interpreter or a model of sounds and texts"
        )
    if room not in ("classification", "crossmodal") and fold is not None:
        raise AuriscopeError(f"{model}: folds are for classifiers only; leave --fold out")
    if room != "crossmodal" and templates:
        raise AuriscopeError(f"{model}: templates are for models of sounds and texts only; leave --templates out")
    if room == "quality" and not separators:
        raise AuriscopeError(f"{model}: a quality model judges tracks; give the separation model with --separator")
    if room != "quality" and separators:
        raise AuriscopeError(f"{model}: a separator is for quality models only; leave --separator out")
    if room != "recognition" and (decoding or language_model):
        raise AuriscopeError(f"{model}: decoding and language models are for recognisers only; leave them out")
    if room == "recognition":
        options = decoding or DecodingOptions()
        return _recognized(model, network, set_name, split, options, language_model, lm_weight, offline, notify)
    if room == "speaker":
        return _verified(model, network, set_name, split, notify)
    if isinstance(network, CrossModal) and holds_captions(set_name):
        if fold is not None or templates:
            raise AuriscopeError(f"{set_name}: holds captions, not classes; leave --fold and --templates out")
        number, found = retrieval_figures(network, set_name, split, notify)
        figures = {name: Figure(*ends) for name, ends in found.items()}
        return EvaluationResult(set_name, split, model, (), number, figures)
    if isinstance(network, CrossModal):
        number, found = zero_shot_figures(network, set_name, split, notify, fold=fold, templates=templates or TEMPLATES)
        figures = {name: Figure(*ends) for name, ends in found.items()}
        return EvaluationResult(set_name, split, model, (), number, figures)
    if isinstance(network, Classifier):
        return _classified(model, network, set_name, split, fold, notify)
    if isinstance(network, TrainedInterpreter):
        return _explained(model, set_name, split, offline, notify)
    if room == "synthesis":
        return _spoken(model, network, set_name, split, offline, notify)
    items = evaluation_set(set_name, split, sample_rate=network.config.sample_rate)
    if isinstance(items, PreparedSet) and items.fixed_order:
        if room == "quality":
            raise AuriscopeError(f"{set_name}: holds stems; a quality model judges talkers")
        require_separator(network, model)
        figures = {name: Figure(*ends) for name, ends in stem_figures(network, items, notify).items()}
    elif isinstance(network, OwnMetrics):
        figures = _own_figures(network, items, notify)
    elif room == "separation":
        figures = _separation_figures(network, items, notify)
    else:
        pairs = []
        for number, address in enumerate(separators):
            splitter = load(address, offline=offline)
            require_separator(splitter, address)
            pairs.append(
                _judged(network, splitter, items, lambda done, n=number: notify((n + done) / len(separators)))  # type: ignore[misc]
            )
        figures = _quality_figures(np.concatenate(pairs, axis=1))
    return EvaluationResult(items.name, split, model, tuple(separators), len(items), figures)


def _recognized(
    model: str,
    recognizer: Any,
    set_name: str,
    split: str,
    options: DecodingOptions,
    language_model: str | None,
    lm_weight: float | None,
    offline: bool | None,
    on_progress: OnProgress,
) -> EvaluationResult:
    if not isinstance(recognizer, Recognizer):
        raise AuriscopeError(f"{model}: {recognizer.instead or 'does not transcribe'}; give a recogniser")
    helper = open_language_model(language_model, offline=offline) if language_model else None
    if helper is not None:
        options = with_language_model(options, helper, lm_weight)
    items = spoken_set(set_name, split, sample_rate=int(recognizer.config.sample_rate))
    figures = recognition_figures(
        recognizer, items, on_progress, options=dataclasses.replace(options, word_times=False), language_model=helper
    )
    return EvaluationResult(
        items.name, split, model, (), len(items), {name: Figure(*ends) for name, ends in figures.items()}
    )


def _verified(model: str, network: Any, set_name: str, split: str, on_progress: OnProgress) -> EvaluationResult:
    if not isinstance(network, Embedder):
        raise AuriscopeError(f"{model}: {network.instead or 'does not embed voices'}; give a speaker model")
    found = trials(set_name, split, sample_rate=int(network.config.sample_rate))
    figures = {name: Figure(*ends) for name, ends in speaker_figures(network, found, on_progress).items()}
    return EvaluationResult(found.name, split, model, (), len(found.targets), figures)


def _classified(
    model: str, network: Classifier, set_name: str, split: str, fold: int | None, on_progress: OnProgress
) -> EvaluationResult:
    number, found = classification_figures(network, set_name, split, on_progress, fold=fold)
    figures = {name: Figure(*ends) for name, ends in found.items()}
    return EvaluationResult(set_name, split, model, (), number, figures)


def _explained(
    model: str, set_name: str, split: str, offline: bool | None, on_progress: OnProgress
) -> EvaluationResult:
    method = load_method(None, model=model, offline=offline)
    examples = Examples(method.classifier, set_name, split, asked=True)
    number = len(examples)
    found = evaluated(method.classifier, method.interpreter, examples, lambda done: on_progress(done / number))
    figures = {name: Figure(*ends) for name, ends in found.items()}
    return EvaluationResult(set_name, split, model, (), number, figures)


def _spoken(
    model: str, network: Any, set_name: str, split: str, offline: bool | None, on_progress: OnProgress
) -> EvaluationResult:
    if not isinstance(network, Synthesizer):
        raise AuriscopeError(f"{model}: is a vocoder and speaks no texts; give a synthesiser")
    found = SentenceSet(set_name, split, sample_rate=int(network.config.sample_rate))
    figures = synthesis_figures(network, found, on_progress, offline=offline)
    return EvaluationResult(
        found.name, split, model, (), len(found), {name: Figure(*ends) for name, ends in figures.items()}
    )


def _nothing(_: float) -> None:
    """Tell nobody."""


def _separated(
    separator: Any, items: EvaluationSet, on_progress: OnProgress
) -> Iterator[tuple[EvaluationItem, Tensor]]:
    """Run every mixture through the separator: the item, and its estimates (sources, time) in the references' order."""
    num_sources, rate = int(separator.config.num_sources), int(separator.config.sample_rate)
    # A mixture is one chunk, as in the literature; only a very long one is cut as a long recording is.
    config = LongConfig(chunk_seconds=_LONGEST_CHUNK_SECONDS)
    for index, item in enumerate(items):
        if len(item.sources) != num_sources:
            raise AuriscopeError(
                f"{items.name} has {len(item.sources)} talkers and the model separates {num_sources}; choose another"
            )
        tracks = torch.from_numpy(separate_waveform(item.mixture.numpy(), separator, sample_rate=rate, config=config))
        order = pit_si_snr(tracks[None], item.sources[None]).permutation
        yield item, permute(tracks[None], order)[0]
        on_progress((index + 1) / len(items))


def _separation_figures(separator: Any, items: EvaluationSet, on_progress: OnProgress) -> dict[str, Figure]:
    values: dict[str, list[float]] = {"si_snr_db": [], "si_snri_db": [], "sdri_db": []}
    for item, tracks in _separated(separator, items, on_progress):
        estimates, references, mixture = tracks[None], item.sources[None], item.mixture[None]
        values["si_snr_db"].append(float(pit_si_snr(estimates, references).values.mean()))
        values["si_snri_db"].append(float(si_snri(estimates, references, mixture).mean()))
        values["sdri_db"].append(float(sdri(estimates.double(), references.double(), mixture.double()).mean()))
        if len(tracks) == 1:
            for name, number in _perceptual(tracks, item).items():
                values.setdefault(name, []).append(number)
    summaries = {name: summarize(numbers) for name, numbers in values.items()}
    return {name: Figure(summary.mean, summary.low, summary.high) for name, summary in summaries.items()}


def _own_figures(network: OwnMetrics, items: EvaluationSet, on_progress: OnProgress) -> dict[str, Figure]:
    """The figures of a model with metrics of its own."""
    values: dict[str, list[float]] = {}
    for index, batch in enumerate(items.batches(1)):
        for name, value in network.evaluate(batch).items():
            values.setdefault(name, []).append(float(value))
        on_progress((index + 1) / len(items))
    summaries = {name: summarize(numbers) for name, numbers in values.items()}
    return {name: Figure(summary.mean, summary.low, summary.high) for name, summary in summaries.items()}


def _perceptual(tracks: Tensor, item: EvaluationItem) -> dict[str, float]:
    """PESQ, STOI and ESTOI of an enhanced recording (1, time) and what they gained over the mixture."""
    rate = item.sample_rate
    signals = [tracks, item.mixture[None], item.sources]
    if rate not in (8_000, 16_000):
        rate, signals = 16_000, [resample(signal, item.sample_rate, 16_000) for signal in signals]
    after, before, reference = signals
    band: Band = "narrow" if rate == 8_000 else "wide"
    measures: dict[str, Callable[[Tensor], PerceptualScores]] = {
        f"pesq_{band[0]}b": lambda signal: pesq(signal, reference, sample_rate=rate, band=band),
        "stoi": lambda signal: stoi(signal, reference, sample_rate=rate),
        "estoi": lambda signal: stoi(signal, reference, sample_rate=rate, extended=True),
    }
    scores: dict[str, float] = {}
    for name, measure in measures.items():
        scores[name] = float(measure(after).values)
        scores[f"{name}_gain"] = scores[name] - float(measure(before).values)
    return scores


def _judged(
    estimator: Any, separator: Any, items: EvaluationSet, on_progress: OnProgress
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Blind and true SI-SNR of every track that a separator makes of a set, (mixtures, sources, 2)."""
    if estimator.config.sample_rate != separator.config.sample_rate:
        raise AuriscopeError(
            f"the quality model works at {estimator.config.sample_rate} Hz and the separator at "
            f"{separator.config.sample_rate} Hz; choose two of one rate"
        )
    blind, true = [], []
    for item, tracks in _separated(separator, items, on_progress):
        blind.append(predict_long(estimator, item.mixture, tracks).score_db[0].double().numpy())
        true.append(pit_si_snr(tracks[None], item.sources[None]).values[0].double().numpy())
    return np.stack([np.stack(blind), np.stack(true)], axis=-1)


def _quality_figures(pairs: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Figure]:
    # Tracks of one mixture are not independent: whole mixtures, rows, are resampled.
    pairs = pairs[np.isfinite(pairs).all(axis=(1, 2))]
    return {
        "pearson": _interval(pairs, lambda estimate, truth: float(pearsonr(estimate, truth).statistic)),
        "spearman": _interval(pairs, lambda estimate, truth: float(spearmanr(estimate, truth).statistic)),
        "mean_absolute_error_db": _interval(pairs, lambda estimate, truth: float(np.abs(estimate - truth).mean())),
        "mean_error_db": _interval(pairs, lambda estimate, truth: float((estimate - truth).mean())),
    }


def _interval(pairs: np.ndarray[Any, Any], statistic: Callable[[Any, Any], float]) -> Figure:
    """A statistic of (mixtures, sources, 2) blind and true values, with its percentile bootstrap interval."""
    if len(pairs) < 2:
        return Figure(None, None, None)

    def of(chosen: np.ndarray[Any, Any]) -> float:
        blind, true = chosen.reshape(-1, 2).T
        return statistic(blind, true)

    rng = np.random.default_rng(0)
    drawn = [of(pairs[rng.integers(0, len(pairs), len(pairs))]) for _ in range(_NUM_RESAMPLES)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Figure(of(pairs), float(low), float(high))
