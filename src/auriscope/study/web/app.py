"""The web application: the routes of every area behind the guards, and one way to say that something went wrong."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import auriscope
from auriscope.errors import AuriscopeError
from auriscope.study.participants import Refused
from auriscope.study.study import Study
from auriscope.study.web import admin, collect, entry, health, rate, upload
from auriscope.study.web.guards import HEADERS, RateLimits, RequestLog, SameSite, SecurityHeaders, SmallBodies
from auriscope.study.web.pages import HERE, page

LOG = logging.getLogger("auriscope.study")

_STATUS = {"session": 401, "form": 403, "rate": 429, "not_found": 404, "broken": 500}


def create_app(study: Study) -> FastAPI:
    """Make the application that serves one study."""
    app = FastAPI(
        title="auriscope study",
        version=auriscope.__version__,
        description="Collects recordings, or ratings, from people.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.study = study
    app.state.metrics = health.Metrics(study)
    app.state.storage_probe = health.StorageProbe(study)
    app.include_router(entry.router)
    app.include_router(collect.router)
    app.include_router(rate.router)
    app.include_router(upload.router)
    app.include_router(health.router)
    admin.install(app)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(AuriscopeError, _impossible)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(SmallBodies)
    app.add_middleware(SameSite, public_url=study.settings.public_url)
    app.add_middleware(RateLimits, settings=study.settings)
    app.add_middleware(health.MeasureRequests, metrics=app.state.metrics)
    app.add_middleware(RequestLog)
    app.add_middleware(SecurityHeaders, https=study.settings.is_https)
    return app


def _wants_json(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def _tell(request: Request, status: int, key: str, message: str | None = None) -> Response:
    """Say in the visitor's way what went wrong: a JSON object for scripts, a page for people."""
    if _wants_json(request):
        return JSONResponse({"error": key, "message": message}, status_code=status)
    return page(request, "refused.html.j2", status=status, key=key, message=message)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _tell(request, _STATUS.get(error.key, 409), error.key)


async def _impossible(request: Request, error: Exception) -> Response:
    return _tell(request, 422, "broken", str(error))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _tell(request, 422, "form", f"{where}: {first['msg']}")


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    key = "not_found" if error.status_code == 404 else "form"
    response = _tell(request, error.status_code, key)
    response.headers.update(error.headers or {})
    return response


async def _broken(request: Request, error: Exception) -> Response:
    LOG.exception("a request failed", exc_info=error)
    response = _tell(request, 500, "broken")
    # This answer does not pass what else adds them.
    response.headers.update({**HEADERS, "cache-control": "no-store"})
    return response
