"""Structured logs: one JSON object a line on standard error, without anything about participants.

An exception is told by its kind and the places it came through, never by its message: messages of databases hold the
values of rows, and those of parsers hold what somebody sent.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import IO

_LOGGERS = ("auriscope", "uvicorn", "uvicorn.error", "huey", "alembic")
_MAX_FRAMES = 40


class JsonFormatter(logging.Formatter):
    """Writes a record as a JSON object: ``at``, ``level``, ``logger``, ``event`` and what the record adds.

    A message that is a JSON object itself gives its keys; other messages are the ``event``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        message = record.getMessage()
        try:
            told = json.loads(message)
        except ValueError:
            told = None
        line.update(told if isinstance(told, dict) else {"event": message})
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])[-_MAX_FRAMES:]
            line["exception"] = record.exc_info[0].__name__
            line["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line, ensure_ascii=False)


def configure(level: str = "INFO", stream: IO[str] | None = None) -> logging.Handler:
    """Let the server's and the worker's loggers write JSON lines, and give the handler that does it."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler] if "." not in name else []
        logger.propagate = "." in name
        logger.setLevel(level)
    # Its lines name the visitor's address and the query; the server writes its own lines about requests.
    logging.getLogger("uvicorn.access").disabled = True
    return handler
