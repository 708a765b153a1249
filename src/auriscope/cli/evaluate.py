"""``auriscope evaluate``: figures of a model on the evaluation sets."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from auriscope.cli.console import complain, emit, printable, progress_bar, say, to_json
from auriscope.cli.options import (
    Beam,
    CtcWeight,
    Json,
    LanguageModel,
    LmWeight,
    Offline,
    Threads,
    decoding_options,
    use_threads,
)
from auriscope.errors import AuriscopeError


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Address of a separation, quality or speaker model, of a recogniser, a synthesiser, a classifier or a "
            "model of sounds and texts.",
            show_default=False,
        ),
    ],
    sets: Annotated[
        list[str],
        typer.Argument(
            metavar="SET",
            help="Evaluation sets, such as libri2mix-mini-clean, or prepared folders; for a recogniser corpora with "
            "texts, or digits, also corrupted, such as libri_eval50_flac-noisy-reverb; for a synthesiser corpora with "
            "texts; for a speaker model trials, such as libri-halves; for a classifier labelled sounds or images, such "
            "as sound-events or mnist.",
            show_default=False,
        ),
    ],
    split: Annotated[str, typer.Option("--split", metavar="test|valid", help="Part of the set.")] = "test",
    separator: Annotated[
        list[str] | None,
        typer.Option(
            "--separator", metavar="ADDRESS", help="What makes the tracks that a quality model judges; may be repeated."
        ),
    ] = None,
    beam: Beam = None,
    ctc_weight: CtcWeight = None,
    language_model: LanguageModel = None,
    lm_weight: LmWeight = None,
    fold: Annotated[
        int | None,
        typer.Option(
            "--fold",
            metavar="NUMBER",
            help="Which fold of a prepared corpus with folds tests a classifier; 0: every fold, of a model of sounds "
            "and texts.",
        ),
    ] = None,
    templates: Annotated[
        list[str] | None,
        typer.Option(
            "--templates",
            metavar="TEXT|ensemble",
            help="For a model of sounds and texts: prompt for the classes, {} being the class; may be repeated. "
            "ensemble is several common ones.",
            show_default="this is a sound of {}",
        ),
    ] = None,
    json: Json = False,
    offline: Offline = False,
    threads: Threads = None,
) -> None:
    """Measure a model on fixed evaluation sets, or on what prepare wrote, with 95 % intervals.

    The sets need the corpora, in the folder that AURISCOPE_CORPORA names. Separation models get SI-SNR, SI-SNRi and
    SDRi, or of stems the SDR of each, quality models their correlation with the true SI-SNR, recognisers word and
    character error, speaker models the equal error rate, synthesisers the share of sentences whose attention is in
    order, and what a recogniser hears, and classifiers accuracy, balanced accuracy and F1.
    """
    use_threads(threads)
    from auriscope.verbs.evaluate import evaluate as run

    decoding = decoding_options(beam_size=beam, ctc_weight=ctc_weight)
    failed = False
    for name in sets:
        try:
            with progress_bar(name) as update:
                result = run(
                    model,
                    name,
                    split=split,
                    separators=separator or (),
                    decoding=decoding,
                    language_model=language_model,
                    lm_weight=lm_weight,
                    fold=fold,
                    templates=templates or (),
                    offline=offline or None,
                    on_progress=partial(update, name),
                )
        except AuriscopeError as error:
            failed = True
            complain(error)
            if json:
                emit({"input": name, "error": str(error)})
            continue
        if json:
            emit(_flat(result))
        else:
            kinds = {
                "word_error_percent": "utterances",
                "eer_percent": "trials",
                "attention_ok_percent": "sentences",
                "accuracy_percent": "sounds or images",
            }
            what = next((kind for figure, kind in kinds.items() if figure in result.figures), "mixtures")
            say(f"{printable(result.set)} ({result.split}, {result.num_mixtures} {what})")
            width = max(24, 2 + max(map(len, result.figures)))
            for figure, value in to_json(result.figures).items():
                say(
                    f"  {figure:<{width}}{_number(value['value'])}  [{_number(value['low'])}, {_number(value['high'])}]"
                )
    if failed:
        raise typer.Exit(1)


def _flat(result: Any) -> dict[str, Any]:
    values = to_json(result)
    for name, figure in values.pop("figures").items():
        values[name] = figure["value"]
        values[f"{name}_low"], values[f"{name}_high"] = figure["low"], figure["high"]
    return {str(key): value for key, value in values.items()}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
