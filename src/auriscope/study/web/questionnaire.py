"""The questionnaire: what two speakers, or one listener, say of themselves before they begin.

Answers lie in ``Session.answers``. Of speakers::

    {"speakers": [{"gender": "female", "native": true, "native_language": "fr"}, {…}], "nativeness": "both_native"}

and of a listener::

    {"hearing": "normal", "device": "headphones", "native_language": "sw"}

``native`` is meant of the language of the sentences; ``nativeness`` is both_native, both_non_native or one_of_each. A
``native_language`` is a code of ISO 639-1 where the answer names a language that we know, and else the answer itself:
letters, spaces, hyphens, apostrophes and brackets.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError, computed_field

from auriscope.study.campaign import LANGUAGES, Campaign, Collection
from auriscope.study.words import words

GENDERS = ("female", "male", "other", "undisclosed")
HEARING = ("normal", "impaired", "undisclosed")
DEVICES = ("headphones", "earphones", "loudspeakers")

_AREA = "languages."


def language_names(language: str) -> list[str]:
    """Give the names of the languages that we know, in a language of the pages and in its order.

    >>> "Swahili" in language_names("en"), "Allemand" in language_names("fr")
    (True, True)
    """
    return sorted((name for key, name in words(language).items() if key.startswith(_AREA)), key=str.casefold)


def language_code(answer: str) -> str:
    """Give the code of a language by its name in any language of the pages; other answers stay as they are.

    >>> language_code("allemand"), language_code(" German "), language_code("Plautdietsch")
    ('de', 'de', 'Plautdietsch')
    """
    answer = " ".join(answer.split())
    for language in LANGUAGES:
        for key, name in words(language).items():
            if key.startswith(_AREA) and name.casefold() == answer.casefold():
                return key.removeprefix(_AREA)
    return answer


def _only_letters(answer: str) -> str:
    """Take what can be the name of a language, so that nothing else (a name, an address) is published as one."""
    # Telephones write the curved apostrophe.
    answer = answer.replace("\u2019", "'")
    # Vowels of some scripts are marks on letters.
    if not all(letter in " -'()" or unicodedata.category(letter)[0] in "LM" for letter in answer):
        raise ValueError("not the name of a language")
    return answer


NativeLanguage = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=2, max_length=60),
    AfterValidator(_only_letters),
    AfterValidator(language_code),
]


class _Answers(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Speaker(_Answers):
    """What one of the two speakers says of themselves."""

    gender: Literal["female", "male", "other", "undisclosed"]
    native: bool
    native_language: NativeLanguage


class Speakers(_Answers):
    """The answers of a collection: the two speakers, in the order in which their sentences are shown."""

    speakers: tuple[Speaker, Speaker]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def nativeness(self) -> Literal["both_native", "both_non_native", "one_of_each"]:
        """Whether both speakers, none or one of them is native in the language of the sentences."""
        native = [speaker.native for speaker in self.speakers]
        if native[0] != native[1]:
            return "one_of_each"
        return "both_native" if native[0] else "both_non_native"


class Listener(_Answers):
    """The answers of a rater."""

    hearing: Literal["normal", "impaired", "undisclosed"]
    device: Literal["headphones", "earphones", "loudspeakers"]
    native_language: NativeLanguage


class AnswersError(ValueError):
    """Answers that are missing or wrong; ``fields`` names the fields of the form."""

    def __init__(self, fields: list[str]) -> None:
        super().__init__(f"missing or wrong answers: {', '.join(fields)}")
        self.fields = fields


def read_answers(campaign: Campaign, form: Mapping[str, str]) -> dict[str, Any]:
    """Turn the fields of the form into answers as they are kept.

    Speakers' fields are ``gender1``, ``native1`` (yes or no), ``language1`` and the same with 2; a listener's are
    ``hearing``, ``device`` and ``language1``. Raises ``AnswersError``.
    """
    names: dict[tuple[str | int, ...], str]
    model: type[_Answers]
    if isinstance(campaign, Collection):
        model = Speakers
        names = {
            ("speakers", index, key): f"{field}{index + 1}"
            for index in (0, 1)
            for key, field in (("gender", "gender"), ("native", "native"), ("native_language", "language"))
        }
        values: dict[str, Any] = {
            "speakers": [
                {key: form.get(names["speakers", index, key]) for key in ("gender", "native", "native_language")}
                for index in (0, 1)
            ]
        }
    else:
        model = Listener
        names = {("hearing",): "hearing", ("device",): "device", ("native_language",): "language1"}
        values = {key: form.get(name) for (key,), name in names.items()}  # type: ignore[misc]
    try:
        return model.model_validate(values).model_dump(mode="json")
    except ValidationError as error:
        wrong = {names[place["loc"]] for place in error.errors()}
        raise AnswersError([name for name in names.values() if name in wrong]) from None
