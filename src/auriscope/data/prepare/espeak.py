"""Synthetic readers: texts spoken by the program espeak-ng, to learn reading from before there are people to hear.

espeak-ng (https://github.com/espeak-ng/espeak-ng, GPL 3) speaks by rules: plain, the same each time, and as much of it
as one likes. What it says is nobody's recording. ``--root`` is the folder that the speech goes to, ``VOICE/*.wav``, and
from which it is listed; what lies there already is not spoken again. The texts are the lines of ``texts.txt`` in that
folder, or else those of LibriSpeech in the corpus ``libri_text``. ``--train-set`` is how many are trained on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from auriscope.data.prepare.layout import Selection
from auriscope.data.prepare.speech import FoundUtterance, SpeechLayout
from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason

PROGRAM = "espeak-ng"
VOICES = {
    **{
        f"{accent}-{kind}": (f"{accent}+{kind}", kind[0].upper())
        for accent in ("en-us", "en-gb")
        for kind in ("m3", "f2")
    },
    **{f"en-us-{kind}": (f"en-us+{kind}", kind[0].upper()) for kind in ("m1", "m7", "f4", "f5")},
}
"""Readers by their name: espeak-ng's name of the voice, and the sex it stands for."""
_CHARACTERS = range(15, 121)
"""Short sentences, in which attention is found sooner."""
_MEASURED = 40
"""Utterances of the valid and of the test split."""
WORDS_PER_MINUTE = (140, 160, 180)
TEXTS = "texts.txt"


def _find(root: Path, selection: Selection) -> Iterator[FoundUtterance]:
    program = shutil.which(PROGRAM)
    number = int(selection.train_set) + 2 * _MEASURED
    lines = _texts(root)[:number]
    if len(lines) < number:
        raise CorpusError(
            f"{root}: there are texts for {len(lines)} utterances, and {number} are needed; add to {TEXTS}"
        )
    utterances, jobs = [], []
    for place, text in enumerate(lines):
        reader = sorted(VOICES)[place % len(VOICES)]
        # Another text in this place is another recording.
        path = f"{reader}/{place:05d}-{zlib.crc32(text.encode()):08x}.wav"
        split = "test" if place < _MEASURED else "valid" if place < 2 * _MEASURED else "train"
        utterances.append(FoundUtterance(split, path, text, reader, VOICES[reader][1]))
        if not (root / path).is_file():
            jobs.append((root / path, VOICES[reader][0], WORDS_PER_MINUTE[place % len(WORDS_PER_MINUTE)], text))
    if jobs and program is None:
        raise CorpusError(f"the program {PROGRAM}, which is to speak the texts, is not installed; install {PROGRAM}")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(lambda job: speak(str(program), *job), jobs))
    yield from utterances


def _texts(root: Path) -> list[str]:
    """The texts that are short, in small letters and in their order."""
    # Reads texts for language models too, which needs torch; listing the other corpora does not.
    from auriscope.data.texts import LIBRI_TEXT, read_lines

    own = (root / TEXTS).absolute()
    lines = read_lines(own if own.is_file() else LIBRI_TEXT)
    return [text.lower() for _, text in lines if len(text) in _CHARACTERS]


def speak(program: str, path: Path, voice: str, words_per_minute: int, text: str) -> None:
    """Have espeak-ng write a text into a WAV file, by its own name of the voice; ``CorpusError`` where it cannot."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The text goes in by the standard input: one that begins with a dash is no option.
        arguments = [program, "-v", voice, "-s", str(words_per_minute), "-w", str(aside), "--stdin"]
        subprocess.run(arguments, input=text.encode(), check=True, capture_output=True, timeout=60)
        aside.replace(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written ({reason(error)})") from error
    except subprocess.SubprocessError as error:
        raise CorpusError(f"{path}: {PROGRAM} could not speak its text; is its voice {voice} installed?") from error


LAYOUTS = (SpeechLayout("espeak", {"condition": ("read",), "train_set": ("2000", "500", "8000")}, _find),)
