"""Versions of the tables, by alembic: an empty database is brought to the newest one, an older one catches up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auriscope.study.database import Database


def upgrade(database: Database) -> None:
    """Bring a database to the newest version; of several that do so at once, one makes the tables."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with database.write(alone="migrations") as session:
        config.attributes["connection"] = session.connection()
        command.upgrade(config, "head")
