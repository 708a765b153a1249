"""A study as it lies in its folder: the campaign, the settings, the database and the files, opened together."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itsdangerous import BadSignature, Signer, URLSafeTimedSerializer
from sqlalchemy.orm import Session as OrmSession

from auriscope.signal.outputs import StrPath
from auriscope.study.campaign import Campaign, read_campaign
from auriscope.study.database import Database
from auriscope.study.ids import sha256_of
from auriscope.study.schema import AuditEntry, Definition, Setting
from auriscope.study.settings import SECRET_FILE, Settings, read_settings
from auriscope.study.storage import Storage, open_storage


@dataclass
class Study:
    """Everything that a page, a job or a command of one study works with."""

    folder: Path
    campaign: Campaign
    definition: str
    settings: Settings
    database: Database
    storage: Storage

    @classmethod
    def open(cls, folder: StrPath) -> Study:
        """Open the study of a folder and bring its tables up to date.

        Raises ``AuriscopeError``, one line with the cure, for whatever is missing or wrong in it.
        """
        folder = Path(folder)
        read = read_campaign(folder)
        settings = read_settings(folder)
        database = Database(settings.database)
        database.prepare()
        return cls(folder, read.campaign, read.text, settings, database, open_storage(settings.storage))

    def signer(self, purpose: str) -> Signer:
        """Give what signs texts for one purpose (HMAC with SHA-256); signatures of others do not hold."""
        import hashlib

        return Signer(
            self.settings.secret,
            salt=f"auriscope.{self.campaign.name}.{purpose}",
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )

    def is_signed(self, purpose: str, value: str) -> bool:
        """Say whether a text carries our signature for a purpose."""
        try:
            self.signer(purpose).unsign(value)
        except BadSignature:
            return False
        return True

    def links(self, purpose: str) -> URLSafeTimedSerializer:
        """Give what makes and reads signed values with an age, for links that end."""
        return URLSafeTimedSerializer(self.settings.secret, salt=f"auriscope.{self.campaign.name}.{purpose}")

    def definition_sha256(self, session: OrmSession) -> str:
        """Keep the campaign's file as it is now, and give the digest that names it."""
        digest = sha256_of(self.definition)
        if session.get(Definition, digest) is None:
            session.add(Definition(sha256=digest, text=self.definition))
            session.flush()
        return digest

    def is_paused(self, session: OrmSession) -> bool:
        """Whether the study takes nobody new at the moment."""
        setting = session.get(Setting, "paused")
        return setting is not None and bool(setting.value.get("paused"))

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def audit(
    session: OrmSession, actor: str, action: str, subject: str | None = None, details: Mapping[str, Any] | None = None
) -> None:
    """Write down, in the same transaction, who did what; ``details`` never hold personal data.

    ``actor`` is an account's id, ``command`` for the command line, or ``server``.
    """
    session.add(AuditEntry(actor=actor, action=action, subject=subject, details=dict(details or {})))


def write_secret(folder: Path) -> Path:
    """Make the study's secret, readable by its owner alone; an existing one stays."""
    path = folder / SECRET_FILE
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
    return path
