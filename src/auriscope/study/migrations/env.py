"""How alembic reaches the database: by the connection it is given."""

from __future__ import annotations

from alembic import context

from auriscope.study.schema import Table

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Table.metadata, render_as_batch=True
)
context.run_migrations()
