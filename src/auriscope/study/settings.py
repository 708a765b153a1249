"""How a study is served: where its database, files and jobs are. Everything has a default inside the study's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import printable, reason

SERVER_FILE = "server.yaml"
SECRET_FILE = "secret.key"

_ENVIRONMENT = {
    "database": "AURISCOPE_STUDY_DATABASE",
    "storage": "AURISCOPE_STUDY_STORAGE",
    "queue": "AURISCOPE_STUDY_QUEUE",
    "public_url": "AURISCOPE_STUDY_URL",
    "secret": "AURISCOPE_STUDY_SECRET",
    "metrics_token": "AURISCOPE_STUDY_METRICS_TOKEN",
}


class Settings(BaseModel):
    """The server's settings, from ``server.yaml``; environment variables win over the file.

    ``database``: a URL of SQLAlchemy. ``storage``: a folder, or a URL such as ``s3://bucket/prefix``. ``queue``: a file
    for jobs, or ``redis://…``. ``public_url``: what participants open. ``trusted_proxies``: addresses whose
    ``X-Forwarded-For`` is believed. ``metrics_token``: what opens ``/metrics`` to those who do not ask from the machine
    itself. ``recognizer``: address of what writes down what was said, for the comparison with what was to be read;
    None: nothing is compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    database: str
    storage: str
    queue: str
    secret: str = Field(min_length=32, repr=False)
    public_url: str = "http://127.0.0.1:8000"
    trusted_proxies: list[str] = Field(default_factory=list)
    uploads_per_minute: int = Field(default=60, ge=1)
    requests_per_minute: int = Field(default=1200, ge=1)
    logins_per_minute: int = Field(default=10, ge=1)
    begins_per_minute: int = Field(default=30, ge=1)
    metrics_token: str | None = Field(default=None, min_length=16, repr=False)
    separator: str | None = None
    estimator: str | None = None
    recognizer: str | None = None

    @property
    def is_https(self) -> bool:
        """Whether participants come by HTTPS, so that cookies may insist on it."""
        return self.public_url.startswith("https://")


def read_settings(folder: Path) -> Settings:
    """Read the settings of a study's folder; ``AuriscopeError`` names the key and the cure."""
    path = folder / SERVER_FILE
    values: dict[str, Any] = {}
    try:
        if path.exists():
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AuriscopeError(f"{printable(path)}: cannot be read ({reason(error)})") from None
    if not isinstance(values, dict):
        raise AuriscopeError(f"{printable(path)}: settings are a mapping of keys to values")
    values.update({key: os.environ[name] for key, name in _ENVIRONMENT.items() if os.environ.get(name)})
    values.setdefault("database", f"sqlite:///{(folder / 'study.db').absolute()}")
    values.setdefault("storage", str((folder / "files").absolute()))
    values.setdefault("queue", str((folder / "jobs.db").absolute()))
    if "secret" not in values:
        secret = folder / SECRET_FILE
        try:
            values["secret"] = secret.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise AuriscopeError(
                f"{printable(secret)}: cannot be read ({reason(error)}); `auriscope study init` writes it"
            ) from None
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise AuriscopeError(f"{printable(path)}: {place}: {first['msg']}") from None
