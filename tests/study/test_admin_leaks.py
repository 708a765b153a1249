"""What the administration gives away: sounds by links that hold for one account, no other files, and quiet logs."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from auriscope.study.logs import configure
from auriscope.study.schema import Contributor
from auriscope.study.storage import put
from auriscope.study.study import Study
from auriscope.study.web.app import create_app
from auriscope.study.web.audio import audio_token

from .conftest import COLLECTION
from .filled import PASSWORD, add_accounts, fill_collection, log_in


@pytest.fixture
def full(collection: Study) -> tuple[Study, dict[str, str], list[str]]:
    return collection, add_accounts(collection), fill_collection(collection, num_sessions=2)


@pytest.fixture
def client(full: Any) -> Iterator[TestClient]:
    with TestClient(create_app(full[0]), follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize("storage", ["folder", "memory"])
def test_sounds_come_whole_and_in_parts(open_study: Callable[..., Study], storage: str) -> None:
    places = {} if storage == "folder" else {"storage": "memory://admin-sounds"}
    study = open_study(COLLECTION, **places)
    accounts = add_accounts(study)
    data = np.random.default_rng(0).bytes(200_000)
    put(study.storage, "recordings/sub_a.wav", data)
    with TestClient(create_app(study), follow_redirects=False) as client:
        log_in(client, "rita")
        address = "/admin/audio/" + audio_token(study, "recordings/sub_a.wav", accounts["rita"])
        whole = client.get(address)
        assert (whole.status_code, whole.content) == (200, data)
        assert whole.headers["content-type"] == "audio/wav"
        assert whole.headers["accept-ranges"] == "bytes"
        assert whole.headers["content-disposition"] == 'inline; filename="recordings-sub_a.wav"'
        for wanted, part in (
            ("bytes=0-", (0, 200_000)),
            ("bytes=0-0", (0, 1)),
            ("bytes=100-70000", (100, 70_001)),
            ("bytes=199999-", (199_999, 200_000)),
            ("bytes=-1000", (199_000, 200_000)),
            ("bytes=-999999999", (0, 200_000)),
            ("bytes=150000-999999999999", (150_000, 200_000)),
        ):
            answer = client.get(address, headers={"range": wanted})
            first, last = part
            assert (answer.status_code, answer.content) == (206, data[first:last]), wanted
            assert answer.headers["content-range"] == f"bytes {first}-{last - 1}/200000"
            assert answer.headers["content-length"] == str(last - first)
        for wanted in ("bytes=200000-", "bytes=-0"):
            answer = client.get(address, headers={"range": wanted})
            assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */200000")
        for ignored in ("bytes=5-1", "bytes=0-1,5-6", "lines=0-1", "bytes=", "bytes=-", "bytes=a-b", "0-1"):
            answer = client.get(address, headers={"range": ignored})
            assert (answer.status_code, answer.content) == (200, data), ignored


def test_links_to_sounds_hold_for_one_account_and_end(
    full: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, accounts, ids = full
    key = f"recordings/{ids[0]}.wav"
    log_in(client, "rita")
    mine = audio_token(study, key, accounts["rita"])
    assert client.get(f"/admin/audio/{mine}").status_code == 200
    assert client.get(f"/admin/audio/{audio_token(study, key, accounts['rolf'])}").status_code == 404
    assert client.get(f"/admin/audio/{mine[:-1]}").status_code == 404
    moment = time.time() + 3601
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: moment)
    assert client.get(f"/admin/audio/{mine}").status_code == 404


@pytest.mark.parametrize(
    "key",
    ["../secret.key", "secret.key", "recordings/../../secret.key", "/etc/passwd", "recordings/none.wav", "", "..",
     "../../../../../../etc/hostname.wav", "recordings/a\x00.wav", "recordings"],
)  # fmt: skip
def test_no_link_leads_out_of_the_storage(full: Any, client: TestClient, key: str) -> None:
    study, accounts, _ = full
    log_in(client, "olga")
    # Even one that we had signed ourselves.
    assert client.get(f"/admin/audio/{audio_token(study, key, accounts['olga'])}").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/static/../../study.py", "/static/..%2f..%2fstudy.py", "/static/%2e%2e/pages.py",
     "/admin/audio/..%2f..%2fsecret.key", "/admin/csv/..%2f..%2fsecret.key.csv", "/admin/submissions/..%2faudit",
     "/static//etc/passwd"],
)  # fmt: skip
def test_no_address_leads_to_a_file_of_the_server(full: Any, client: TestClient, path: str) -> None:
    study = full[0]
    log_in(client, "olga")
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    assert study.settings.secret not in answer.text
    assert "def " not in answer.text


@pytest.fixture
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Let the server's loggers write into memory; gives what they have written, a JSON object a line."""
    names = ("auriscope", "uvicorn", "uvicorn.error", "huey", "alembic")
    before = {name: (logging.getLogger(name).handlers, logging.getLogger(name).propagate) for name in names}
    stream = io.StringIO()
    configure(stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    for name, (handlers, propagate) in before.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(logging.NOTSET)
    logging.getLogger("uvicorn.access").disabled = False


def test_logs_tell_nothing_about_people(full: Any, log_lines: Callable[[], list[dict[str, Any]]]) -> None:
    app = create_app(full[0])

    def fail(worker: str) -> None:
        with full[0].database.write() as session:
            session.add(Contributor(platform="prolific", external_id=worker))
            session.flush()
            session.add(Contributor(platform="prolific", external_id=worker))

    app.add_api_route("/fail/{worker}", fail)
    secret = "5f2SECRETWORKER"
    with TestClient(app, follow_redirects=False, raise_server_exceptions=False) as client:
        welcome = client.get(f"/?PROLIFIC_PID={secret}&STUDY_ID=st&SESSION_ID=se", headers={"user-agent": "Browser/77"})
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', welcome.text))
        assert client.post("/begin", data={**fields, "agree": "yes"}).status_code == 303
        client.get("/questionnaire")
        log_in(client, "olga")
        client.get(f"/admin/removal?name={secret}")
        assert client.get(f"/fail/{secret}").status_code == 500
        client.get(f"/{secret}")
    lines = log_lines()
    told = json.dumps(lines)
    assert {"GET", "POST"} <= {str(line.get("method")) for line in lines}
    broken = next(line for line in lines if line.get("exception"))
    assert broken["exception"] == "IntegrityError"
    assert any("test_admin_leaks.py" in frame for frame in broken["frames"])
    for word in (secret, "testclient", "Browser/77", PASSWORD, *client.cookies.values()):
        assert word not in told
    for line in lines:
        assert {"at", "level", "logger", "event"} <= set(line)
