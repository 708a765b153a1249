"""For those who watch: whether the server can work, what it has counted, and how the worker is told to be late."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from auriscope.study.database import Database
from auriscope.study.heartbeat import LATE_AFTER_SECONDS, beat
from auriscope.study.ids import now
from auriscope.study.jobs import MAX_ATTEMPTS, Jobs
from auriscope.study.overview import figures, work_left
from auriscope.study.schema import Score, Setting, Submission
from auriscope.study.study import Study
from auriscope.study.web.app import create_app

from .conftest import COLLECTION, recording
from .filled import fill_collection

HERE = ("127.0.0.1", 40_000)


def health(study: Study) -> tuple[int, dict[str, Any]]:
    with TestClient(create_app(study)) as client:
        answer = client.get("/healthz")
    return answer.status_code, answer.json()


def test_a_server_that_can_work_says_so(collection: Study) -> None:
    beat(collection)
    assert health(collection) == (200, {"ok": True, "database": "ok", "storage": "ok", "worker": "ok"})
    # What was written to try it is gone.
    assert [path for path in Path(collection.settings.storage).rglob("*") if path.is_file()] == []


def test_a_listening_study_needs_no_worker(listening: Study) -> None:
    assert health(listening) == (200, {"ok": True, "database": "ok", "storage": "ok", "worker": "not_needed"})


def test_a_worker_that_is_missing_or_late_is_told(collection: Study) -> None:
    late = (503, {"ok": False, "database": "ok", "storage": "ok", "worker": "failing"})
    assert health(collection) == late
    beat(collection)
    with collection.database.write() as session:
        session.scalars(select(Setting)).one().changed_at = now() - timedelta(seconds=LATE_AFTER_SECONDS + 1)
    assert health(collection) == late
    beat(collection)
    assert health(collection)[0] == 200


def test_a_storage_that_cannot_be_written_is_told(open_study: Callable[..., Study], tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file, where the folder should be")
    study = open_study(COLLECTION, storage=str(tmp_path / "occupied"))
    beat(study)
    assert health(study) == (503, {"ok": False, "database": "ok", "storage": "failing", "worker": "ok"})


def test_a_database_that_does_not_answer_is_told(open_study: Callable[..., Study]) -> None:
    study = open_study(COLLECTION)
    beat(study)
    study.database.close()
    study.database = Database("postgresql+psycopg://study@127.0.0.1:1/none")
    assert health(study) == (503, {"ok": False, "database": "failing", "storage": "ok", "worker": "failing"})


def values(text: str) -> dict[str, float]:
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def test_metrics_count_requests_and_tell_of_the_stock(collection: Study, sender: Callable[..., Any]) -> None:
    visitor = sender(collection)
    data = recording(0, seconds=1.0)
    assert visitor.send(data).status_code == 201
    assert visitor.send(b"no sound").status_code == 415
    beat(collection)
    app = visitor.client.app
    with TestClient(app, client=HERE) as client:
        client.get("/nowhere/at-all")
        found = values(client.get("/metrics").text)
    assert found['auriscope_uploads_total{outcome="stored"}'] == 1
    assert found['auriscope_uploads_total{outcome="refused"}'] == 1
    assert found['auriscope_requests_total{method="PUT",route="/api/submissions/{key}",status="201"}'] == 1
    assert found['auriscope_requests_total{method="GET",route="unmatched",status="404"}'] == 1
    assert found['auriscope_request_seconds_count{method="PUT",route="/api/submissions/{key}"}'] == 2
    assert found["auriscope_submissions"] == 1
    assert found["auriscope_review_queue"] == 1
    assert found['auriscope_sessions{state="open"}'] == 1
    assert found['auriscope_work_left{state="unchecked"}'] == 1
    assert abs(found["auriscope_worker_seen_timestamp_seconds"] - now().timestamp()) < 60
    assert not any(re.search(r"sub_|ses_|con_|nowhere", name) for name in found)


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        (("127.0.0.1", 1), {}, 200),
        (("::1", 1), {}, 200),
        (("192.0.2.7", 1), {}, 404),
        # A proxy on the same machine passes on what comes from elsewhere.
        (("127.0.0.1", 1), {"x-forwarded-for": "127.0.0.1"}, 404),
        (("127.0.0.1", 1), {"forwarded": "for=127.0.0.1"}, 404),
        (("192.0.2.7", 1), {"authorization": "Bearer a-token-for-prometheus"}, 200),
        (("127.0.0.1", 1), {"x-forwarded-for": "192.0.2.7", "authorization": "Bearer a-token-for-prometheus"}, 200),
        (("192.0.2.7", 1), {"authorization": "Bearer another-token-of-some"}, 404),
        (("192.0.2.7", 1), {"authorization": "a-token-for-prometheus"}, 404),
        (("192.0.2.7", 1), {"authorization": b"Bearer \xe9\xff"}, 404),
    ],
)
def test_metrics_are_for_the_machine_itself_or_with_a_token(
    open_study: Callable[..., Study], client: Any, headers: Any, status: int
) -> None:
    study = open_study(COLLECTION, metrics_token="a-token-for-prometheus")
    with TestClient(create_app(study), client=client) as visitor:
        assert visitor.get("/metrics", headers=headers).status_code == status


def test_without_a_token_in_the_settings_no_token_opens(open_study: Callable[..., Study]) -> None:
    with TestClient(create_app(open_study(COLLECTION)), client=("192.0.2.7", 1)) as client:
        for given in ("Bearer None", "Bearer ", "Bearer", "None"):
            assert client.get("/metrics", headers={"authorization": given}).status_code == 404


def left(study: Study) -> dict[str, int]:
    with study.database.read() as session:
        return work_left(study, session)


def test_what_the_worker_has_left_is_what_it_will_do(collection: Study, sender: Callable[..., Any]) -> None:
    visitor = sender(collection)
    visitor.send(recording(0, seconds=1.0))
    second = visitor.send(recording(1, seconds=1.0)).json()["submission"]
    assert left(collection) == {"unchecked": 2, "unscored": 0, "failed": 0}
    with collection.database.write() as session:
        session.get_one(Submission, second).checks_failed = MAX_ATTEMPTS
    assert left(collection) == {"unchecked": 1, "unscored": 0, "failed": 1}
    Jobs(collection).drain()
    assert left(collection) == {"unchecked": 0, "unscored": 1, "failed": 1}
    with collection.database.write() as session:
        first = session.scalars(select(Submission).where(Submission.id != second)).one()
        first.scoring_failed = MAX_ATTEMPTS
    assert left(collection) == {"unchecked": 0, "unscored": 0, "failed": 2}
    with collection.database.write() as session:
        session.add(Score(submission_id=first.id, separator="s", estimator="e", tracks=[]))
    assert left(collection) == {"unchecked": 0, "unscored": 0, "failed": 1}


def test_a_recording_that_cannot_be_decoded_is_not_waited_for(collection: Study) -> None:
    fill_collection(collection, num_sessions=1, per_session=1)
    with collection.database.write() as session:
        session.delete(session.scalars(select(Score)).one())
        submission = session.scalars(select(Submission)).one()
        submission.checks = {"decoding": {"ok": False, "value": "cut off", "limit": None}, "ok": False}
    assert left(collection) == {"unchecked": 0, "unscored": 0, "failed": 0}


def test_the_figures_are_those_of_the_rows(collection: Study) -> None:
    ids = fill_collection(collection, num_sessions=8, per_session=2, days=5)
    with collection.database.read() as session:
        found = figures(collection, session)
        rows = session.scalars(select(Submission)).all()
    assert found.submissions == len(ids) == 16
    assert found.sessions == {"open": 2, "finished": 4, "removed": 2}
    assert found.completion == 0.5
    assert sum(found.submissions_by_day.values()) == 16
    assert found.recorded_seconds == pytest.approx(16 * 0.4)
    assert found.bytes_stored == sum(row.num_bytes for row in rows)
    assert found.checks_passed == sum(row.checks["ok"] for row in rows)
    for kind in ("clipping", "one_voice"):
        assert found.checks_failing.get(kind, 0) == sum(not row.checks[kind]["ok"] for row in rows)
    assert sum(found.scores.values()) == 32
    assert found.review_waiting == 12
    assert found.bytes_free
