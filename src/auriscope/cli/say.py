"""``auriscope say``: text in, speech out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auriscope.cli.console import Outcome, complain, emit, one_line_for, printable, progress_bar
from auriscope.cli.console import say as tell
from auriscope.cli.options import Json, Offline, Threads, use_threads
from auriscope.errors import AuriscopeError

if TYPE_CHECKING:
    from auriscope.verbs.sayer import Sayer


def say(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to say; - reads it from the standard input.")
    ] = None,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="FILE", help="WAV, FLAC, Ogg, Opus or MP3 by its suffix; - streams WAV to stdout."
        ),
    ] = "speech.wav",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read the text from a file.", show_default=False)
    ] = None,
    voice: Annotated[
        list[Path] | None,
        typer.Option(
            "--voice",
            metavar="CLIP",
            help="Speak in the voice of this clip, with that person's consent; may be repeated.",
            show_default="the model's own voice",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="ADDRESS",
            help="Synthesizer: a shipped name (see `auriscope models`), a folder, or hf://owner/name.",
            show_default="the one that ships",
        ),
    ] = None,
    vocoder: Annotated[
        str | None,
        typer.Option(
            "--vocoder",
            metavar="ADDRESS",
            help="Vocoder, of the same mels as the model; griffin-lim needs no weights.",
            show_default="the one that ships",
        ),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            metavar="ADDRESS",
            help="Speaker model that takes the voice from the clip.",
            show_default="the one that the model was taught with",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Another one says it another way.")] = 0,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Sentences made together: faster, but later.")
    ] = 1,
    tries: Annotated[
        int, typer.Option("--tries", metavar="N", min=1, help="How often a sentence that fails is said again.")
    ] = 4,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Keep the best try of a sentence that failed, with a warning.")
    ] = False,
    detect: Annotated[
        list[Path] | None,
        typer.Option(
            "--detect",
            metavar="RECORDING",
            help="Say nothing, but look whether a recording is marked as synthetic; may be repeated.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FOLDER",
            help="Instead of a file: every line of the text by itself, and a page that tells how good the speech is.",
            show_default=False,
        ),
    ] = None,
    recognizer: Annotated[
        str | None,
        typer.Option(
            "--recognizer",
            metavar="ADDRESS",
            help="With --report: the recogniser that hears the speech, or `none`.",
            show_default="the one that ships",
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="Where the models run: cpu, cuda.")] = "cpu",
    json: Json = False,
    offline: Offline = False,
    threads: Threads = None,
) -> None:
    """Speak a text, sentence by sentence, however long it is.

    Numbers, dates and abbreviations are spoken as a reader would. A sentence that the model does not read from its
    beginning to its end is said again, and there is no speech if it fails again and again. The speech is marked as
    synthetic, in the file's metadata and in the sound itself.
    """
    if detect:
        if text is not None or file is not None:
            raise typer.BadParameter("--detect says nothing; leave out the text")
        _detect(detect, json=json)
        return
    if (text is None) == (file is None):
        raise typer.BadParameter("give a TEXT, - for the standard input, or --file")
    use_threads(threads)
    name = "-" if file is None and text == "-" else text if file is None else str(file)
    with one_line_for([name], json=json), progress_bar("speaking") as update:
        from auriscope.synthesis.speaking import SpeakConfig
        from auriscope.verbs.say import say as run
        from auriscope.verbs.sayer import Sayer, SayerSettings

        content = _text(text, file)
        config = SpeakConfig(seed, batch_size, tries, keep_failed)
        settings = SayerSettings(model, vocoder, list(voice or ()), embedder, config, device, offline or None)
        if report is not None:
            _report(content, report, Sayer(settings), recognizer, update, json=json)
            return
        result = run(
            content,
            out,
            sayer=Sayer(settings),
            on_sentence=lambda sentence, fraction: update(sentence.text[:40], fraction),
        )
    for warning in result.warnings:
        complain(warning)
    if json:
        emit(result.to_dict())
    elif out != "-":
        tell(f"{printable(out)} ({result.duration_seconds:.1f} s)")


def _report(
    content: str,
    folder: Path,
    sayer: Sayer,
    recognizer: str | None,
    update: Callable[[str, float], None],
    *,
    json: bool,
) -> None:
    from auriscope.verbs.defaults import default_recognizer
    from auriscope.verbs.speech_report import Prompt, speech_report, voice_reader_of
    from auriscope.verbs.transcriber import Transcriber, TranscriberSettings

    offline = sayer.settings.offline
    address = recognizer or default_recognizer()
    heard_by = None if address in (None, "none") else Transcriber(TranscriberSettings(address, offline=offline))
    found = speech_report(
        [Prompt(line) for line in content.splitlines() if line.strip()],
        folder,
        sayer=sayer,
        transcriber=heard_by,
        voices=voice_reader_of(sayer),
        on_progress=update,
    )
    for warning in found.warnings:
        complain(warning)
    if json:
        emit(found.to_dict())
        return
    tell(printable(found.files[0]))
    tell(f"  attention in order: {100 * found.attention_share:.0f} % of {len(found.items)} sentences")
    if found.character_errors is not None:
        tell(f"  character error of {found.recognizer}: {100 * found.character_errors.rate:.1f} %")


def _text(text: str | None, file: Path | None) -> str:
    """Read what is to be said."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise AuriscopeError(f"{printable(file)}: there is no such text; check the path") from None
        except (OSError, UnicodeDecodeError) as error:
            raise AuriscopeError(f"{printable(file)}: cannot be read as text of UTF-8 ({error})") from None
    return sys.stdin.read() if text == "-" else str(text)


def _detect(recordings: list[Path], *, json: bool) -> None:
    from auriscope.verbs.batch import each
    from auriscope.verbs.say import MarkResult, find_mark

    def describe(result: Any) -> None:
        found = [] if result.metadata is None else [f"its metadata name {result.metadata.get('model')}"]
        if result.watermark:
            found.append(f"the mark is in the sound (score {result.watermark_score:.1f})")
        says = "; ".join(found) or f"not marked (score {result.watermark_score:.1f})"
        tell(f"{printable(result.input)}: {'synthetic: ' if found else ''}{says}")

    outcome = Outcome(describe, json=json)
    for result in each(
        recordings, lambda path, _: find_mark(path), lambda path, line: MarkResult(str(path), error=line)
    ):
        outcome.tell(result)
    outcome.exit_if_failed()
