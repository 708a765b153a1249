"""The words of the pages by area and language: ``web/words/AREA.LANGUAGE.yaml`` holds flat keys and their texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources

import yaml

from auriscope.study.campaign import LANGUAGES

Translate = Callable[..., str]


@cache
def words(language: str) -> Mapping[str, str]:
    """Give all texts of a language by ``area.key``."""
    found: dict[str, str] = {}
    for entry in sorted(resources.files("auriscope.study.web").joinpath("words").iterdir(), key=lambda path: path.name):
        area, _, rest = entry.name.partition(".")
        if rest == f"{language}.yaml":
            texts = yaml.safe_load(entry.read_text(encoding="utf-8")) or {}
            found.update({f"{area}.{key}": str(text) for key, text in texts.items()})
    return found


def translator(language: str) -> Translate:
    """Give what turns ``area.key`` into the text of a language, with ``{names}`` filled in.

    >>> translator("en")("common.continue")
    'Continue'
    """
    texts = words(language)

    def translate(key: str, **values: object) -> str:
        return texts[key].format(**values) if values else texts[key]

    return translate


def best_language(header: str | None, offered: list[str]) -> str:
    """Choose among the campaign's languages by the browser's ``Accept-Language``; the first where none fits.

    >>> best_language("fr-CA,fr;q=0.9,en;q=0.5", ["en", "fr"]), best_language("de", ["en", "fr"])
    ('fr', 'en')
    """
    weighed = []
    for part in (header or "")[:500].split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            weighed.append((-float(weight or 1), tag.split("-")[0].lower()))
        except ValueError:
            continue
    return next((tag for _, tag in sorted(weighed) if tag in offered and tag in LANGUAGES), offered[0])
