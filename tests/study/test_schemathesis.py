"""No input breaks the server: everything in its OpenAPI description, and every form of the administration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error

from auriscope.study.heartbeat import beat
from auriscope.study.study import Study
from auriscope.study.web.app import create_app

from .conftest import COLLECTION, LISTENING, write_study
from .filled import add_accounts, csrf_of, fill_collection, fill_listening, log_in
from .test_admin import MATRIX, PUBLIC, filled_in

BOUNDED = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@schemathesis.serializer("audio/wav")
def as_it_is(context: Any, value: Any) -> bytes:
    """Give the body of an upload: bytes as they are, and whatever else is generated in its place as text."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module", params=["collection", "listening"])
def visited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A study whose visitor has agreed and answered, with the visitor's cookie and token."""
    campaign = COLLECTION if request.param == "collection" else LISTENING
    study = Study.open(write_study(tmp_path_factory.mktemp("schema") / "study", campaign))
    beat(study)
    app = create_app(study)
    with TestClient(app, follow_redirects=False) as client:
        if request.param == "listening":
            fill_listening(study, num_raters=1)
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', client.get("/").text))
        client.post("/begin", data={**fields, "agree": "yes"})
        token = csrf_of(client.get("/questionnaire").text)
        assert token
        cookie = client.cookies["auriscope_session"]
    yield app, {"cookie": f"auriscope_session={cookie}", "x-csrf-token": token}
    study.close()


def test_no_request_of_the_interface_breaks_the_server(visited: Any) -> None:
    app, headers = visited
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 7
    for operation in operations:

        @BOUNDED
        @given(
            case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
            | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
        )
        def send(case: Any) -> None:
            # As a visitor whose token is right, and as somebody who has none.
            for given_headers in (headers, {}):
                response = case.call(headers=given_headers)
                case.validate_response(response, checks=[not_a_server_error])

        send()


TEXTS = st.one_of(
    st.text(max_size=50),
    st.sampled_from(["", "yes", "payment", "approved", "good", "\x00", "sub_" + "2" * 20, "-1", "1e400", "%", "=1+1"]),
    st.integers().map(str),
)
FIELDS = (
    "name", "password", "state", "contributor", "again", "vote", "reasons", "note", "field", "decision", "expected",
    "sure", "reason", "suggestion", "checks", "payment", "use", "session", "start", "before", "skipped", "saved",
)  # fmt: skip
FORMS = st.dictionaries(
    st.sampled_from(FIELDS),
    TEXTS,
    max_size=10,
)


@pytest.fixture
def owner(collection: Study) -> Iterator[tuple[TestClient, str, Callable[[str], str]]]:
    study = collection
    accounts = add_accounts(study)
    ids = fill_collection(study, [accounts["rolf"]], num_sessions=2)
    with TestClient(create_app(study), follow_redirects=False) as client:
        log_in(client, "olga")
        token = csrf_of(client.get("/admin/overview").text)
        yield client, token, lambda path: filled_in(path, study, accounts["olga"], ids[0])


@pytest.mark.parametrize(("method", "path"), sorted((set(MATRIX) | PUBLIC) - {("POST", "/admin/logout")}))
def test_no_form_of_the_administration_breaks_the_server(owner: Any, method: str, path: str) -> None:
    client, token, address = owner

    @settings(BOUNDED, max_examples=15)
    @given(values=FORMS, part=TEXTS)
    def send(values: dict[str, str], part: str) -> None:
        fields = values if path == "/admin/login" else {**values, "csrf": token}
        places = {address(path), re.sub(r"\{\w+\}", quote(part, safe=""), path)}
        for place in places:
            answer = client.request(method, place, **({"params": values} if method == "GET" else {"data": fields}))
            assert answer.status_code < 500

    send()
