"""That a worker is alive: it says so now and then in the database, where every web process can see it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session as OrmSession

from auriscope.study.ids import now
from auriscope.study.schema import Setting
from auriscope.study.study import Study

SECONDS_BETWEEN = 30
LATE_AFTER_SECONDS = 150

_NAME = "worker"


def beat(study: Study) -> None:
    """Say that a worker is alive; call it every :data:`SECONDS_BETWEEN` seconds."""
    with study.database.write(alone="heartbeat") as session:
        setting = session.get(Setting, _NAME)
        if setting is None:
            session.add(Setting(name=_NAME, value={}))
        else:
            setting.changed_at = now()


def seen_at(session: OrmSession) -> datetime | None:
    """Give when a worker was last seen; None if never."""
    setting = session.get(Setting, _NAME)
    return None if setting is None else setting.changed_at


def is_alive(session: OrmSession) -> bool:
    """Whether a worker was seen lately."""
    moment = seen_at(session)
    return moment is not None and now() - moment <= timedelta(seconds=LATE_AFTER_SECONDS)
