"""A new study: a folder with a campaign that works at once, remarks on everything in it, and a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Literal

from jinja2 import DictLoader, Environment, StrictUndefined

from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import make_folder, printable, reason, written_aside
from auriscope.study.campaign import CAMPAIGN_FILE, LANGUAGES, parse_campaign
from auriscope.study.settings import SECRET_FILE, SERVER_FILE
from auriscope.study.study import write_secret
from auriscope.study.words import words

ITEMS_FILE = "items.csv"

MAX_LETTERS = 500

_TITLES = {
    "collection": {"en": "Two voices at once", "fr": "Deux voix à la fois"},
    "listening": {"en": "How good do these voices sound?", "fr": "Comment sonnent ces voix ?"},
}
_INSTRUCTIONS = {
    "collection": {
        "en": "Two people in a quiet room read two short sentences at the same time, and one phone or computer records "
        "both. It takes about ten minutes for ten recordings.",
        "fr": "Dans une pièce calme, deux personnes lisent en même temps deux phrases courtes, et un téléphone ou un "
        "ordinateur enregistre les deux. Il faut une dizaine de minutes pour dix enregistrements.",
    },
    "listening": {
        "en": "You hear short recordings and say how good they sound. You need headphones, a quiet place, and about "
        "twenty minutes.",
        "fr": "Vous écoutez de courts enregistrements et dites à quel point ils sont bons. Il vous faut un casque, un "
        "endroit calme et une vingtaine de minutes.",
    },
}
_AMOUNTS = {"collection": 2.0, "listening": 3.0}


def init(
    folder: Path,
    kind: Literal["collection", "listening"],
    *,
    languages: Sequence[str] = ("en",),
    sentences: Sequence[Path] = (),
    contact: str = "lab@example.org",
) -> list[Path]:
    """Write a new study into a folder, which is made if need be, and give the paths of its files.

    ``sentences`` are files with one sentence a line, for the first language, the second, and so on; without one, a
    language has example sentences. Raises ``AuriscopeError``: there is a study already, or something cannot be read.
    """
    languages = list(dict.fromkeys(languages))
    for language in languages:
        if language not in LANGUAGES:
            raise AuriscopeError(f"the pages do not speak {language!r}; choose among {', '.join(LANGUAGES)}")
    if not re.fullmatch(r"[^\s@\"'{}]+@[^\s@\"'{}]+", contact):
        raise AuriscopeError(f"the contact {contact!r} is no e-mail address")
    if sentences and kind == "listening":
        raise AuriscopeError("a listening study has no sentences; leave them out, or choose --kind collection")
    if len(sentences) > len(languages):
        raise AuriscopeError(f"there are {len(sentences)} files of sentences for {len(languages)} languages")
    names = [CAMPAIGN_FILE, SERVER_FILE, *([ITEMS_FILE] if kind == "listening" else [])]
    for name in (*names, SECRET_FILE, "study.db"):
        if (folder / name).exists():
            raise AuriscopeError(f"{printable(folder / name)}: there is a study here already; choose another folder")
    text = _campaign(folder, kind, languages, _sentences(languages, sentences), contact)
    parse_campaign(text, CAMPAIGN_FILE)
    contents = {CAMPAIGN_FILE: text, SERVER_FILE: _template("server.yaml"), ITEMS_FILE: _template("items.csv")}
    make_folder(folder)
    # The campaign comes last: a folder with one has everything else.
    secret = write_secret(folder)
    for name in reversed(names):
        with written_aside(folder / name) as aside:
            aside.write_text(contents[name], encoding="utf-8")
    return [*(folder / name for name in names), secret]


def _template(name: str) -> str:
    return resources.files("auriscope.study").joinpath("templates", name).read_text(encoding="utf-8")


def _campaign(folder: Path, kind: str, languages: Sequence[str], sentences: list[dict[str, str]], contact: str) -> str:
    templates = (f"{kind}.yaml.j2", "common.yaml.j2", "platforms.yaml.j2")
    environment = Environment(
        loader=DictLoader({name: _template(name) for name in templates}),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = partial(json.dumps, ensure_ascii=False)
    consent = {language: _template(f"consent-{kind}.{language}.txt") for language in languages}
    return environment.get_template(templates[0]).render(
        kind=kind,
        name=_name(folder),
        languages=languages,
        title=_TITLES[kind],
        instructions=_INSTRUCTIONS[kind],
        contact=contact,
        consent={key: environment.from_string(text).render(contact=contact) for key, text in consent.items()},
        question={language: words(language)["rate.question_quality"] for language in languages},
        amount=_AMOUNTS[kind],
        sentences=sentences,
    )


def _name(folder: Path) -> str:
    """Make a campaign's name of the folder's."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-")
    return name[:60].strip("-") or "study"


def _sentences(languages: Sequence[str], files: Sequence[Path]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for number, language in enumerate(languages):
        lines = _read(files[number]) if number < len(files) else _template(f"sentences.{language}.txt").splitlines()
        width = max(3, len(str(len(lines))))
        found += [
            {"id": f"{language}-{place:0{width}}", "language": language, "text": line}
            for place, line in enumerate(lines, 1)
        ]
    return found


def _read(path: Path) -> list[str]:
    """Read sentences, one a line; empty lines and remarks (``#``) are passed over."""
    shown = printable(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AuriscopeError(f"{shown}: cannot be read ({reason(error)}); save the sentences as UTF-8 text") from None
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        sentence = " ".join(line.split())
        if not sentence or sentence.startswith("#"):
            continue
        if len(sentence) > MAX_LETTERS or not sentence.isprintable():
            raise AuriscopeError(f"{shown}:{number}: a sentence is one line of at most {MAX_LETTERS} letters")
        if sentence in lines:
            raise AuriscopeError(f"{shown}:{number}: this sentence is in line {lines[sentence]} too; take one out")
        lines[sentence] = number
    if len(lines) < 2:
        raise AuriscopeError(f"{shown}: holds fewer than two sentences; write one a line")
    return list(lines)
