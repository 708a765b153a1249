"""``auriscope wer``: what was recognised against what was said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from auriscope.cli.console import emit, one_line_for, printable, say
from auriscope.cli.options import Json


def wer(
    ref: Annotated[
        Path, typer.Option("--ref", metavar="FILE", help="What was said, an utterance a line.", show_default=False)
    ],
    hyp: Annotated[
        Path,
        typer.Option("--hyp", metavar="FILE", help="What was recognised, an utterance a line.", show_default=False),
    ],
    cer: Annotated[bool, typer.Option("--cer", help="Count characters as well.")] = False,
    normalise: Annotated[
        str,
        typer.Option(
            "--normalise",
            metavar="NAME,…",
            help="Compare texts without what does not count: lower-case, no-punctuation, number-words, contractions, "
            "no-fillers, letters, english; several apply in their order.",
        ),
    ] = "none",
    format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="plain|kaldi|trn",
            help="Whether a name stands before every text (kaldi), or in brackets behind it (trn).",
        ),
    ] = "plain",
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            metavar="levenshtein|sclite",
            help="Fewest edits, ties broken by sclite's weights; or least by these weights, as sclite does.",
        ),
    ] = "levenshtein",
    per_utterance: Annotated[
        bool, typer.Option("--per-utterance", help="Say the word error of every utterance.")
    ] = False,
    totals: Annotated[bool, typer.Option("--totals", help="Print the totals alone, without alignments.")] = False,
    json: Json = False,
) -> None:
    """Count the word errors of a transcript, and show where they are.

    Every utterance is shown as sclite does: reference, hypothesis and verdicts, with errors in upper case.
    """
    if weights not in ("levenshtein", "sclite"):
        raise typer.BadParameter(f"{weights!r} is not levenshtein or sclite", param_hint="'--weights'")
    if format not in ("plain", "kaldi", "trn"):
        raise typer.BadParameter(f"{format!r} is not plain, kaldi or trn", param_hint="'--format'")
    from auriscope.verbs.wer import wer as run

    with one_line_for([hyp], json=json):
        result = run(hyp, ref, format=format, normalise=normalise, cer=cer, weights=weights)  # type: ignore[arg-type]
    if json:
        emit(result.to_dict(per_utterance=per_utterance))
        return
    if per_utterance or not totals:
        for number, name in enumerate(result.names):
            _describe(result, number, name, rate=per_utterance, alignment=not totals)
    errors = result.errors
    say(f"utterances     {len(result.names)}, {100 * errors.utterance_error:.1f} % with an error")
    if result.normalise != "none":
        say(f"normalised by  {printable(result.normalise)}")
    between = ""
    if result.interval is not None:
        low, high = result.interval
        between = f" (95 % between {_percent(low)} and {_percent(high)})"
    say(f"word error     {_percent(errors.wer)}{between}: {_counts(errors, 'words')}")
    if result.character_errors is not None:
        counted = _counts(result.character_errors, "characters")
        say(f"character error {_percent(result.character_errors.cer)}: {counted}")


def _describe(result: Any, number: int, name: str, *, rate: bool, alignment: bool) -> None:
    row = result.errors.per_utterance[number].tolist()
    told = ""
    if rate:
        substitutions, insertions, deletions, words = row
        told = (
            f"  {_percent(result.errors.rates[number])}: {substitutions} substitutions, {insertions} insertions, "
            f"{deletions} deletions, {words} words"
        )
    say(f"{printable(name)}{told}")
    if alignment:
        for line in result.alignment(number).split("\n"):
            say(printable(line).rstrip())
        say()


def _counts(errors: Any, units: str) -> str:
    return (
        f"{errors.substitutions} substitutions, {errors.insertions} insertions, {errors.deletions} deletions, "
        f"{errors.size} {units}"
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %" if math.isfinite(fraction) else "infinite"
