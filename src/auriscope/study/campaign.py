"""The campaign: one YAML file that says what people are asked to do, and everything they read.

``Words`` are texts by language (``{en: …, fr: …}``); a plain text stands for all languages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import printable, reason
from auriscope.study.ids import sha256_of

LANGUAGES = ("en", "fr")
"""The languages that the pages speak; a campaign may use fewer."""

CAMPAIGN_FILE = "campaign.yaml"


def _words(value: Any) -> Any:
    return dict.fromkeys(LANGUAGES, value) if isinstance(value, str) else value


Words = Annotated[dict[str, str], BeforeValidator(_words)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Consent(_Strict):
    """What a participant agrees to; change ``version`` whenever the text changes."""

    version: str
    text: Words


class Payment(_Strict):
    """What a participant is paid by the platform, for their information and for the bonus files."""

    currency: str = "USD"
    amount: float = Field(default=0.0, ge=0)
    bonus: float = Field(default=0.0, ge=0)


class Prolific(_Strict):
    """Prolific's side: where it sends its participants back to (``https://app.prolific.com/submissions/complete``)."""

    completion_code: str = Field(pattern=r"^[A-Za-z0-9]{4,32}$")
    screen_out_code: str | None = Field(default=None, pattern=r"^[A-Za-z0-9]{4,32}$")


class MechanicalTurk(_Strict):
    """What ``study hits`` needs to publish the task on Mechanical Turk: a survey link and a field for the stamp."""

    reward: float = Field(gt=0)
    max_assignments: int = Field(default=9, ge=1)
    duration_minutes: int = Field(default=60, ge=1)
    lifetime_days: int = Field(default=7, ge=1)
    auto_approval_days: int = Field(default=3, ge=1, le=30)
    keywords: str = "audio, speech, recording"
    qualifications: list[dict[str, Any]] = Field(default_factory=list)
    sandbox: bool = True


class Limits(_Strict):
    """How much is taken: of one person, in all, and how long a visit may last."""

    sessions_per_contributor: int = Field(default=1, ge=1)
    max_sessions: int | None = Field(default=None, ge=1)
    max_submissions: int | None = Field(default=None, ge=1)
    session_hours: float = Field(default=24.0, gt=0)


class _Campaign(_Strict):
    name: Name
    title: Words
    languages: list[Literal["en", "fr"]] = Field(default=["en"], min_length=1)
    instructions: Words
    contact: str
    consent: Consent
    payment: Payment = Payment()
    limits: Limits = Limits()
    prolific: Prolific | None = None
    mturk: MechanicalTurk | None = None

    @model_validator(mode="after")
    def _speak_all_languages(self) -> Self:
        for field, words in (
            ("title", self.title),
            ("instructions", self.instructions),
            ("consent.text", self.consent.text),
        ):
            missing = [language for language in self.languages if not words.get(language, "").strip()]
            if missing:
                raise ValueError(f"{field} has no text in {missing[0]}")
        return self

    def consent_text(self, language: str) -> str:
        """Give the consent text as it is shown in a language."""
        return self.consent.text[language]


class Sentence(_Strict):
    """A sentence to be read aloud. ``language`` says in which campaign language it is; None: in all."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$")]
    text: str = Field(min_length=1, max_length=500)
    language: str | None = None


class Collection(_Campaign):
    """A collection: two people read two sentences at once, in one room, and send the recording.

    ``pairs`` lists the ids of sentences that are shown together; without it pairs are drawn from ``sentences`` by the
    session's seed. ``submissions_per_session`` recordings complete a session.
    """

    kind: Literal["collection"]
    sentences: list[Sentence] = Field(min_length=2)
    pairs: list[tuple[str, str]] | None = None
    submissions_per_session: int = Field(default=10, ge=1, le=500)
    example_clip: str | None = None
    min_seconds: float = Field(default=1.0, gt=0)
    max_seconds: float = Field(default=30.0, gt=0)
    max_megabytes: float = Field(default=20.0, gt=0)

    @model_validator(mode="after")
    def _pairs_name_sentences(self) -> Self:
        known = [sentence.id for sentence in self.sentences]
        if len(set(known)) != len(known):
            raise ValueError("two sentences have the same id")
        for pair in self.pairs or ():
            if pair[0] == pair[1]:
                raise ValueError(f"the pair {pair[0]}, {pair[1]} is one sentence twice")
            for name in pair:
                if name not in known:
                    raise ValueError(f"the pair {pair[0]}, {pair[1]} names {name!r}, which is no sentence")
        for language in self.languages:
            usable = {sentence.id for sentence in self.sentences if sentence.language in (None, language)}
            if len(usable) < 2:
                raise ValueError(f"there are fewer than two sentences in {language}")
            if self.pairs is not None and not any(usable.issuperset(pair) for pair in self.pairs):
                raise ValueError(f"there is no pair of sentences in {language}")
        return self


class Listening(_Campaign):
    """A listening study: raters hear what systems made and vote from 1 to 5.

    ``scale`` says what is asked: the quality of separated sources, the naturalness of speech, the similarity of two
    voices, or how well an interpretation explains a class; ``question`` asks it in other words. ``manifest`` names the
    items: a CSV or JSON Lines file beside the campaign's, or a folder of results (:mod:`auriscope.study.manifest`).

    A session is ``training_items`` for practice, then ``items_per_session`` items that count, with
    ``gold_per_session`` and ``traps_per_session`` mixed among them. ``headphone_check`` plays ``headphone_trials``
    trials; who fails them twice is sent away if ``headphones_required``. ``break_every`` so many trials a rest is
    suggested; 0: never.
    """

    kind: Literal["listening"]
    scale: Literal["quality", "naturalness", "similarity", "interpretation"] = "quality"
    question: Words | None = None
    manifest: str = "items.csv"
    items_per_session: int = Field(default=20, ge=1)
    ratings_per_item: int = Field(default=5, ge=1)
    gold_per_session: int = Field(default=2, ge=0)
    traps_per_session: int = Field(default=1, ge=0)
    training_items: int = Field(default=2, ge=0)
    headphone_check: bool = True
    headphone_trials: Literal[3, 6] = 6
    headphones_required: bool = False
    complete_listening: bool = True
    break_every: int = Field(default=15, ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _ask_in_all_languages(self) -> Self:
        if self.question is not None:
            missing = [language for language in self.languages if not self.question.get(language, "").strip()]
            if missing:
                raise ValueError(f"question has no text in {missing[0]}")
        return self


Campaign = Collection | Listening
_ANY: TypeAdapter[Campaign] = TypeAdapter(Annotated[Campaign, Field(discriminator="kind")])


def placeholders(campaign: Campaign) -> list[str]:
    """Name what a new study leaves to be filled in, such as ``[SAY WHEN]``, and nobody has filled in."""
    texts = " ".join(campaign.consent_text(language) for language in campaign.languages)
    return list(dict.fromkeys(re.findall(r"\[[A-Z][A-Z ]{4,}\]", texts)))


class Read:
    """A campaign as it was read: the ``campaign``, the ``text`` of its file and its digest ``sha256``."""

    def __init__(self, campaign: Campaign, text: str) -> None:
        self.campaign, self.text, self.sha256 = campaign, text, sha256_of(text)


def parse_campaign(text: str, where: str) -> Campaign:
    """Turn the text of a campaign's file into a campaign; ``AuriscopeError`` names the file, the key and the cure."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise AuriscopeError(f"{where}: is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, Mapping):
        raise AuriscopeError(f"{where}: a campaign is a mapping of keys to values; `auriscope study init` writes one")
    try:
        return _ANY.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        kinds = ("collection", "listening")
        place = ".".join(str(part) for part in first["loc"] if part not in kinds) or "kind"
        message = re.sub(r"^Value error, ", "", first["msg"])
        raise AuriscopeError(f"{where}: {place}: {message}") from None


def read_campaign(folder: Path) -> Read:
    """Read ``campaign.yaml`` of a study's folder."""
    path = folder / CAMPAIGN_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AuriscopeError(
            f"{printable(path)}: there is no campaign here; `auriscope study init {printable(folder)}` writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise AuriscopeError(f"{printable(path)}: cannot be read ({reason(error)})") from None
    return Read(parse_campaign(text, printable(path)), text)
