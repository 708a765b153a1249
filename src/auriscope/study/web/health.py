"""For those who watch the server: ``/healthz`` says whether it can work, ``/metrics`` counts for Prometheus."""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Iterable
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from pydantic import BaseModel
from sqlalchemy import func, select
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from auriscope.errors import AuriscopeError
from auriscope.study import heartbeat
from auriscope.study.campaign import Collection
from auriscope.study.ids import new_id
from auriscope.study.overview import work_left
from auriscope.study.review import tally, waiting
from auriscope.study.schema import Session, Submission, Vote
from auriscope.study.storage import FolderStorage
from auriscope.study.study import Study
from auriscope.study.web.guards import Watch
from auriscope.study.web.pages import StudyDep

LOG = logging.getLogger("auriscope.study")
router = APIRouter()

_PROBE_SECONDS = 10.0
_LOOPBACK = ("127.0.0.1", "::1")
_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")

State = Literal["ok", "failing", "not_needed"]


class Health(BaseModel):
    """Whether the server can do its work, and which part cannot."""

    ok: bool
    database: State
    storage: State
    worker: State


class StorageProbe:
    """Says whether files can be written; asks the storage every few seconds only, whoever asks however often."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._turn = threading.Lock()
        self._asked_at = float("-inf")
        self._works = False

    def works(self) -> bool:
        """Whether a file could be written just now."""
        with self._turn:
            if time.monotonic() - self._asked_at >= _PROBE_SECONDS:
                self._works = self._try()
                self._asked_at = time.monotonic()
            return self._works

    def _try(self) -> bool:
        storage, key = self._study.storage, f"probes/{new_id('prb')}"
        try:
            aside = storage.aside(key)
            aside.write(b"probe")
            if isinstance(storage, FolderStorage):
                # A backup that lists files at this moment does not see it.
                aside.discard()
            else:
                aside.keep()
                storage.delete(key)
        except Exception:
            # Every storage has errors of its own, and all of them mean the same here.
            LOG.exception("the storage cannot be written")
            return False
        return True


@router.get("/healthz", response_model=Health, responses={503: {"model": Health}})
def health(request: Request, study: StudyDep) -> Response:
    """Say whether the database answers, files can be written, and (for collections) a worker was seen lately."""
    worker: State = "not_needed"
    try:
        study.database.check()
        database: State = "ok"
        if isinstance(study.campaign, Collection):
            with study.database.read() as session:
                worker = "ok" if heartbeat.is_alive(session) else "failing"
    except AuriscopeError:
        database = worker = "failing"
    probe: StorageProbe = request.app.state.storage_probe
    storage: State = "ok" if probe.works() else "failing"
    found = Health(ok="failing" not in (database, storage, worker), database=database, storage=storage, worker=worker)
    return JSONResponse(found.model_dump(), status_code=200 if found.ok else 503)


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request, study: StudyDep) -> Response:
    """Give the figures in Prometheus' text format, to the machine itself or to whoever has the token."""
    if not _may_see(request, study.settings.metrics_token):
        raise HTTPException(404)
    counts: Metrics = request.app.state.metrics
    return Response(generate_latest(counts.registry), media_type="text/plain; version=0.0.4")


def _may_see(request: Request, token: str | None) -> bool:
    if token is not None:
        given = request.headers.get("authorization", "")
        if hmac.compare_digest(given.encode("utf-8", "surrogateescape"), f"Bearer {token}".encode()):
            return True
    # Behind a proxy on this machine everybody seems to come from here.
    is_proxied = any(name in request.headers for name in _FORWARDED)
    return not is_proxied and request.client is not None and request.client.host in _LOOPBACK


class Metrics:
    """What one web process has counted, and what the database says when it is asked."""

    def __init__(self, study: Study) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "auriscope_requests_total", "Requests.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "auriscope_request_seconds", "How long requests took.", ["method", "route"], registry=self.registry
        )
        self.uploads = Counter(
            "auriscope_uploads_total", "Recordings by what became of them.", ["outcome"], registry=self.registry
        )
        self.registry.register(_Stock(study))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(method, route, status).inc()
        self.seconds.labels(method, route).observe(seconds)
        if method == "PUT" and route.startswith("/api/submissions"):
            outcome = {200: "repeated", 201: "stored"}.get(status, "refused")
            self.uploads.labels(outcome).inc()


class _Stock:
    """Figures that are asked of the database at every scrape, so that they hold for all web processes."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        study = self._study
        with study.database.read() as session:
            states = GaugeMetricFamily("auriscope_sessions", "Sessions by state.", labels=["state"])
            for state, count in session.execute(select(Session.state, func.count()).group_by(Session.state)):
                states.add_metric([state], count)
            found: list[Metric] = [states]
            if isinstance(study.campaign, Collection):
                queue = select(func.count()).select_from(waiting(tally()).subquery())
                found.append(_gauge("auriscope_submissions", "Recordings kept.", _count(session, Submission)))
                found.append(_gauge("auriscope_review_queue", "Recordings that want a vote.", session.scalar(queue)))
                left = GaugeMetricFamily(
                    "auriscope_work_left",
                    "Recordings that wait for the worker, or that it has given up.",
                    labels=["state"],
                )
                for state, count in work_left(study, session).items():
                    left.add_metric([state], count)
                found.append(left)
            else:
                found.append(_gauge("auriscope_votes", "Votes.", _count(session, Vote)))
            seen = heartbeat.seen_at(session)
            found.append(_gauge("auriscope_worker_seen_timestamp_seconds", "When a worker was last seen.",
                                seen.timestamp() if seen else 0))  # fmt: skip
        return found


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value or 0)


def _count(session: Any, table: Any) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


class MeasureRequests(Watch):
    """Counts every request by its route, never by its address, so that keys and tokens are no labels."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        super().__init__(app)
        self._metrics = metrics

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count it."""
        self._metrics.observe(method if method in _METHODS else "other", route, status, seconds)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
