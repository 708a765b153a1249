"""The verb ``align``: a recording and its text in, the time of every word out."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.data.transcribed import letters
from auriscope.errors import AudioFileError, AuriscopeError
from auriscope.pretrained import load
from auriscope.recognition import Recognizer
from auriscope.recognition.alignment import ctc_align, frames_needed
from auriscope.recognition.pauses import PauseFinder, settled
from auriscope.recognition.posteriors import recording_log_probs
from auriscope.recognition.words import Word, words_of_spans
from auriscope.signal.files import AudioReader
from auriscope.signal.outputs import printable, reason
from auriscope.text.tokenizer import Tokenizer
from auriscope.verbs.batch import (
    FileResult,
    Progress,
    ProgressCallback,
    StrPath,
    collected,
    each,
    expand_inputs,
    folder_aside,
    result_folders,
    source_of,
    write_record,
)
from auriscope.verbs.defaults import default_recognizer
from auriscope.verbs.subtitles import Subtitle, subrip

RECORD = "align.json"
"""Written for each recording: what was aligned with which model, and the words."""

TEXTGRID, SUBTITLES = "words.TextGrid", "words.srt"
"""Written beside it: the words for Praat, and as subtitles, one a word."""

_BLOCK_FRAMES = 1 << 18
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class AlignResult(FileResult):
    """When the words of one recording were said.

    ``words`` are spelt as in the text, in its order; ``files`` are what was written. Where ``error`` is not None it
    says in one line why there are none.
    """

    input: str
    model: str | None = None
    text: str = ""
    words: tuple[Word, ...] = ()
    duration_seconds: float | None = None
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None


def align(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    text: str | None = None,
    model: StrPath | Recognizer | None = None,
    channel: int | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
    progress: ProgressCallback | None = None,
    on_result: Callable[[AlignResult], None] | None = None,
) -> list[AlignResult]:
    """Find when each word of a known text was said: ``out/<stem>/align.json``, ``words.TextGrid`` and ``words.srt``.

    Words begin and end at the pauses near them, if there are any: see :mod:`auriscope.recognition.pauses`. A file that
    fails yields a result with an ``error``, leaves nothing behind and stops no other. Recordings of any length are
    heard in windows; the time of the search grows with the product of sound and text.

    Args:
        inputs: recordings and folders of them; see ``signal.files`` for the formats. Any rate, channels and length.
        out: folder for the results; made if missing.
        text: what is said in the recording, if there is one only; by default the text of each lies beside it, in a file
            of its name that ends in ``.txt``.
        model: address of a recogniser with CTC, or the recogniser; by default one that ships.
        channel: the channel to take, counted from 0; by default all are mixed down.
        device: where the model runs.
        offline: forbid the network, which only a ``hf://`` address would use.
        progress: called as the work goes on.
        on_result: called with each result as soon as there is one.

    Returns:
        One result per recording, in the order of the inputs.

    Raises:
        AuriscopeError: nothing can be done at all: one text for several recordings, a model that cannot be loaded or
            has no CTC, a folder that cannot be written, or an input folder without audio.
    """
    paths = expand_inputs(inputs)
    if text is not None and len(paths) != 1:
        raise AuriscopeError(f"one text cannot be that of {len(paths)} recordings; put NAME.txt beside each NAME.wav")
    recognizer, address = _recognizer(model, device, offline)
    folders = result_folders(paths, out)

    def work(path: Path, index: int) -> AlignResult:
        def report(stage: str, fraction: float) -> None:
            if progress is not None:
                progress(Progress(os.fspath(path), index, len(paths), stage, fraction))

        said = read_text(path.with_suffix(".txt")) if text is None else text
        result = _align(path, said, recognizer, address, channel, report)
        return _write(result, path, folders[index])

    return collected(each(paths, work, lambda path, line: AlignResult(os.fspath(path), error=line)), on_result)


def text_or_file(given: str) -> str:
    """Read the text of a file, if one has this name; else what was given is the text itself."""
    try:
        is_file = "\n" not in given and len(given) < _LONGEST_NAME and Path(given).is_file()
    except (OSError, ValueError):
        is_file = False
    return read_text(Path(given)) if is_file else given


def read_text(path: Path) -> str:
    """Read a file of text in UTF-8; ``AuriscopeError`` in one line if that cannot be."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise AudioFileError(f"{printable(path)}: no such file; put the text there, or give it with --text") from None
    except UnicodeDecodeError:
        raise AudioFileError(f"{printable(path)}: is not text in UTF-8; save it as that") from None
    except OSError as error:
        raise AudioFileError(f"{printable(path)}: cannot be read ({reason(error)}); check the path") from None


def _recognizer(model: StrPath | Recognizer | None, device: Any, offline: bool | None) -> tuple[Recognizer, str]:
    if isinstance(model, Recognizer):
        loaded: Any = model
        address = model.name
    else:
        named = default_recognizer() if model is None else os.fspath(model)
        if named is None:
            raise AuriscopeError("no recogniser is installed; train one (auriscope train) and name it with --model")
        address = named
        loaded = load(address, device=device, offline=offline)
    if not isinstance(loaded, Recognizer) or not loaded.has_ctc:
        raise AuriscopeError(
            f"{address} is no recogniser with CTC, which finding word times needs; see `auriscope models`"
        )
    return loaded.eval(), address


def spelt(text: str, tokenizer: Tokenizer) -> tuple[list[int], list[tuple[str, int]], list[str]]:
    """Write a text in a recogniser's tokens.

    Returns the tokens' numbers, each word of the text with how many words the recogniser makes of it, and what has no
    letters and yet is no punctuation, such as numbers in digits: the recogniser does not know how it is said.
    """
    written, spoken, silent = [], [], []
    small = not any(token.isupper() for token in tokenizer.tokens)
    for word in text.split():
        own = letters(word).lower() if small else letters(word)
        if own:
            written.append((word, len(own.split())))
            spoken.append(own)
        elif any(map(str.isalnum, word)):
            silent.append(word)
    return tokenizer.encode(" ".join(spoken)), written, silent


def joined(words: Sequence[Word], written: Sequence[tuple[str, int]], duration_seconds: float) -> tuple[Word, ...]:
    """Give words as the text has them: what it writes as one word lasts from the first part to the last.

    The confidence is the parts' product; no word ends after the recording.
    """
    found, first = [], 0
    for word, number in written:
        parts = words[first : first + number]
        first += number
        end = min(parts[-1].end_seconds, duration_seconds)
        confidence = math.prod(part.confidence for part in parts)
        found.append(Word(word, min(parts[0].start_seconds, end), end, confidence))
    return tuple(found)


def _align(
    path: Path,
    text: str,
    recognizer: Recognizer,
    address: str,
    channel: int | None,
    report: Callable[[str, float], None],
) -> AlignResult:
    tokenizer = recognizer.tokenizer
    assert tokenizer.blank_id is not None
    numbers, written, silent = spelt(text, tokenizer)
    if not numbers:
        raise AuriscopeError(f"{printable(path)}: its text has no words; give what is said in it")
    warnings = [f"has no letters and got no time: {' '.join(silent)}; write it as it is said"] if silent else []
    rate = int(recognizer.config.sample_rate)
    finder = PauseFinder(rate)
    with AudioReader(path, sample_rate=rate, channel=channel) as reader:
        duration = reader.info.duration_seconds

        def blocks() -> Iterator[NDArray[np.float32]]:
            done = 0
            for block in reader.blocks(_BLOCK_FRAMES):
                finder.update(block)
                yield block
                done += len(block)
                report("listening", 0.9 * min(1.0, done / rate / duration))

        log_probs, frame_seconds = recording_log_probs(recognizer, blocks())
    needed = frames_needed(numbers)
    if needed > len(log_probs):
        frames = f"{needed} frames of {1000 * frame_seconds:g} ms at the least, there are {len(log_probs)}"
        raise AuriscopeError(
            f"{printable(path)}: its text is too long for {duration:.1f} s ({frames}); is it that of this recording?"
        )
    report("aligning", 0.9)
    (spans,) = ctc_align(log_probs[None], torch.tensor([numbers]), blank_id=tokenizer.blank_id).spans
    words = settled(words_of_spans(spans, tokenizer, frame_seconds), finder.pauses())
    words = joined(words, written, duration)
    return AlignResult(os.fspath(path), address, " ".join(text.split()), words, duration, warnings=tuple(warnings))


def _write(result: AlignResult, path: Path, folder: Path) -> AlignResult:
    names = (RECORD, TEXTGRID, SUBTITLES)
    result = dataclasses.replace(result, files=tuple(os.fspath(folder / name) for name in names))
    assert result.duration_seconds is not None
    with folder_aside(folder) as aside:
        (aside / TEXTGRID).write_text(textgrid(result.words, result.duration_seconds), encoding="utf-8")
        (aside / SUBTITLES).write_text(subtitles(result.words), encoding="utf-8")
        facts = {key: value for key, value in result.to_dict().items() if key not in {"input", "files"}}
        write_record(aside / RECORD, {"source": source_of(path), **facts})
    return result


def textgrid(words: Sequence[Word], duration_seconds: float) -> str:
    """Write words as Praat's TextGrid (the long text form): one tier, the pauses being intervals without a label."""
    intervals: list[tuple[float, float, str]] = []
    now = 0.0
    for word in words:
        if word.start_seconds > now:
            intervals.append((now, word.start_seconds, ""))
        # Praat's intervals may not overlap, nor be empty.
        begin = max(now, word.start_seconds)
        if word.end_seconds > begin:
            intervals.append((begin, word.end_seconds, word.word))
            now = word.end_seconds
    if duration_seconds > now:
        intervals.append((now, duration_seconds, ""))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {duration_seconds:.6f}", "tiers? <exists>", "size = 1", "item []:", "    item [1]:"]
    lines += ['        class = "IntervalTier"', '        name = "words"', "        xmin = 0"]
    lines += [f"        xmax = {duration_seconds:.6f}", f"        intervals: size = {len(intervals)}"]
    for number, (begin, end, label) in enumerate(intervals, 1):
        quoted = label.replace('"', '""')
        lines += [f"        intervals [{number}]:", f"            xmin = {begin:.6f}", f"            xmax = {end:.6f}"]
        lines += [f'            text = "{quoted}"']
    return "\n".join(lines) + "\n"


def subtitles(words: Sequence[Word]) -> str:
    """Write words as SubRip subtitles, one a word."""
    return subrip([Subtitle(word.start_seconds, word.end_seconds, (word.word,)) for word in words])
