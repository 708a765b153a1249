"""Names of things in a study: random, free of look-alike letters, and impossible to guess."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime

LETTERS = "23456789abcdefghjkmnpqrstvwxyz"
"""What names are made of: digits and letters that look like no other."""


def new_id(prefix: str) -> str:
    """Give a new name such as ``sub_7hq2…``, of 98 random bits.

    >>> new_id("sub")[:4], len(new_id("sub"))
    ('sub_', 24)
    """
    return f"{prefix}_" + "".join(secrets.choice(LETTERS) for _ in range(20))


def new_token() -> str:
    """Give a secret for a cookie, of 256 random bits."""
    return secrets.token_urlsafe(32)


def sha256_of(text: str) -> str:
    """Digest a text (UTF-8) in hexadecimal: what is kept of a secret, and what names a version of a text.

    >>> sha256_of("")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(text.encode()).hexdigest()


def now() -> datetime:
    """Give the time, in UTC."""
    return datetime.now(UTC)
