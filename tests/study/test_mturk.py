"""Mechanical Turk's API, against the service's own description of its calls; and the task's page in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import boto3
import pytest
from botocore.stub import ANY, Stubber
from sqlalchemy import select

from auriscope.errors import AuriscopeError
from auriscope.study.crowd import payouts
from auriscope.study.mturk import PRODUCTION, SANDBOX, Assignment, Marketplace, connect, question, stamp_in
from auriscope.study.schema import AuditEntry, Session, Setting, Submission
from auriscope.study.stamps import stamp_of
from auriscope.study.study import Study
from auriscope.study.words import translator

COLLECTION: dict[str, Any] = {
    "kind": "collection",
    "name": "two-at-once",
    "title": "Two voices at once",
    "instructions": "Two people read at the same time.\nThey sit side by side.",
    "contact": "lab@example.org",
    "consent": {"version": "1", "text": "We keep your recording."},
    "sentences": [{"id": "a", "text": "One."}, {"id": "b", "text": "Two."}],
    "mturk": {"reward": 1.5},
}
HIT = "3XJOUITW8UR6BHDL4RJDLWX1ZHAQTI"


@pytest.fixture
def study(collection: Study) -> Study:
    collection.settings = collection.settings.model_copy(update={"public_url": "https://study.example.org"})
    payment = collection.campaign.payment.model_copy(update={"amount": 1.5, "bonus": 0.25})
    collection.campaign = collection.campaign.model_copy(update={"payment": payment})
    return collection


@pytest.fixture
def turk(study: Study) -> Iterator[tuple[Marketplace, Stubber]]:
    """A marketplace whose calls are checked against the service's description, and answered as queued."""
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    client = boto3.client("mturk", region_name="us-east-1", endpoint_url=SANDBOX, **keys)
    with Stubber(client) as stubber:
        yield Marketplace(study, client, is_sandbox=True), stubber
        stubber.assert_no_pending_responses()


def hits_of(study: Study) -> list[dict[str, Any]]:
    with study.database.read() as session:
        setting = session.get(Setting, "hits")
        return [] if setting is None else list(setting.value["hits"])


def publish(turk: tuple[Marketplace, Stubber]) -> str:
    market, stubber = turk
    stubber.add_response("create_hit", {"HIT": {"HITId": HIT, "HITGroupId": "GROUP"}})
    return market.publish()


def test_a_task_is_published_with_what_the_campaign_says(study: Study, turk: tuple[Marketplace, Stubber]) -> None:
    market, stubber = turk
    expected = {
        "Title": "Two voices at once",
        "Description": "Two people read at the same time.",
        "Keywords": "audio, speech, recording",
        "Reward": "1.50",
        "MaxAssignments": 9,
        "AssignmentDurationInSeconds": 3600,
        "LifetimeInSeconds": 604_800,
        "AutoApprovalDelayInSeconds": 259_200,
        "Question": ANY,
        "RequesterAnnotation": ANY,
        "UniqueRequestToken": ANY,
    }
    stubber.add_response("create_hit", {"HIT": {"HITId": HIT, "HITGroupId": "GROUP"}}, expected)
    assert market.publish() == HIT
    assert [(entry["hit_id"], entry["sandbox"]) for entry in hits_of(study)] == [(HIT, True)]
    with study.database.read() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "hits.publish")).one()
        assert (entry.subject, entry.details) == (HIT, {"sandbox": True})


def test_publishing_that_broke_off_is_taken_up_with_the_same_token(
    study: Study, turk: tuple[Marketplace, Stubber]
) -> None:
    market, stubber = turk
    stubber.add_client_error("create_hit", "ServiceFault", "try again", 500)
    with pytest.raises(AuriscopeError, match=r"Mechanical Turk: .*try again"):
        market.publish()
    token = hits_of(study)[0]["token"]
    stubber.add_response("list_hits", {"HITs": [], "NextToken": "next"}, {"MaxResults": 100})
    stubber.add_response("list_hits", {"HITs": []}, {"MaxResults": 100, "NextToken": "next"})
    wanted = dict.fromkeys(
        ("Title", "Description", "Keywords", "Reward", "MaxAssignments", "AssignmentDurationInSeconds", "Question"), ANY
    )
    wanted |= {"LifetimeInSeconds": ANY, "AutoApprovalDelayInSeconds": ANY}
    wanted |= {"UniqueRequestToken": token, "RequesterAnnotation": token}
    stubber.add_response("create_hit", {"HIT": {"HITId": HIT}}, wanted)
    assert market.publish() == HIT
    assert [entry["hit_id"] for entry in hits_of(study)] == [HIT]


def test_a_task_whose_answer_was_lost_is_found_again(study: Study, turk: tuple[Marketplace, Stubber]) -> None:
    market, stubber = turk
    stubber.add_client_error("create_hit", "ServiceFault", "the line broke", 500)
    with pytest.raises(AuriscopeError, match="the line broke"):
        market.publish()
    token = hits_of(study)[0]["token"]
    found = {"HITs": [{"HITId": "OTHER"}, {"HITId": HIT, "RequesterAnnotation": token}]}
    stubber.add_response("list_hits", found)
    assert market.publish() == HIT


def test_a_task_that_exists_already_is_not_made_twice(study: Study, turk: tuple[Marketplace, Stubber]) -> None:
    market, stubber = turk
    with study.database.write() as session:
        entry = {"token": "hit_planned", "sandbox": True, "hit_id": None, "group": ""}
        session.add(Setting(name="hits", value={"hits": [entry]}))
    stubber.add_response("list_hits", {"HITs": []})
    message = "AWS.MechanicalTurk.HITAlreadyExists: the HIT exists"
    stubber.add_client_error("create_hit", "RequestError", message, 400)
    stubber.add_response("list_hits", {"HITs": [{"HITId": HIT, "RequesterAnnotation": "hit_planned"}]})
    assert market.publish() == HIT


def test_a_second_task_is_another_one(study: Study, turk: tuple[Marketplace, Stubber]) -> None:
    publish(turk)
    publish(turk)
    tokens = [entry["token"] for entry in hits_of(study)]
    assert len(set(tokens)) == 2


def test_hosts_that_publish_at_once_plan_one_task(study: Study, turk: tuple[Marketplace, Stubber]) -> None:
    with ThreadPoolExecutor(8) as pool:
        planned = list(pool.map(lambda _: turk[0]._plan(), range(8)))
    assert len({token for token, _ in planned}) == len(hits_of(study)) == 1


def test_an_address_that_workers_cannot_open_is_refused(study: Study, turk: tuple[Marketplace, Stubber]) -> None:
    study.settings = study.settings.model_copy(update={"public_url": "http://127.0.0.1:8000"})
    with pytest.raises(AuriscopeError, match="workers cannot open http://127"):
        turk[0].publish()


def test_real_money_is_asked_for_twice(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    assert connect(study, real_money=False).client.meta.endpoint_url == SANDBOX
    with pytest.raises(AuriscopeError, match=r"set mturk\.sandbox to false"):
        connect(study, real_money=True)
    assert study.campaign.mturk is not None
    mturk = study.campaign.mturk.model_copy(update={"sandbox": False})
    study.campaign = study.campaign.model_copy(update={"mturk": mturk})
    assert connect(study, real_money=False).client.meta.endpoint_url == SANDBOX
    assert connect(study, real_money=True).client.meta.endpoint_url == PRODUCTION
    study.campaign = study.campaign.model_copy(update={"mturk": None})
    with pytest.raises(AuriscopeError, match="says nothing of Mechanical Turk"):
        connect(study, real_money=False)


def test_status_counts_what_was_submitted(study: Study, turk: tuple[Marketplace, Stubber]) -> None:
    publish(turk)
    market, stubber = turk
    hit = {"HITId": HIT, "HITGroupId": "GROUP", "HITStatus": "Assignable", "MaxAssignments": 9}
    stubber.add_response("get_hit", {"HIT": {**hit, "NumberOfAssignmentsPending": 2}}, {"HITId": HIT})
    first = {"Assignments": [submitted("A1", "W1", ""), submitted("A2", "W2", "", "Approved")], "NextToken": "more"}
    stubber.add_response("list_assignments_for_hit", first)
    stubber.add_response("list_assignments_for_hit", {"Assignments": [submitted("A3", "W3", "", "Rejected")]})
    (status,) = market.status()
    assert (status.num_submitted, status.num_approved, status.num_rejected, status.num_pending) == (3, 1, 1, 2)
    assert status.link == "https://workersandbox.mturk.com/projects/GROUP/tasks"


def test_expiring_lets_nobody_new_in(study: Study, turk: tuple[Marketplace, Stubber]) -> None:
    publish(turk)
    market, stubber = turk
    expected = {"HITId": HIT, "ExpireAt": datetime(2015, 1, 1, tzinfo=UTC)}
    stubber.add_response("update_expiration_for_hit", {}, expected)
    assert market.expire() == [HIT]


def submitted(assignment: str, worker: str, text: str, status: str = "Submitted") -> dict[str, Any]:
    answers = (
        '<?xml version="1.0" encoding="ASCII"?><QuestionFormAnswers xmlns="http://mechanicalturk.amazonaws.com/'
        'AWSMechanicalTurkDataSchemas/2005-10-01/QuestionFormAnswers.xsd"><Answer><QuestionIdentifier>surveycode'
        f"</QuestionIdentifier><FreeText>{text}</FreeText></Answer></QuestionFormAnswers>"
    )
    return {"AssignmentId": assignment, "WorkerId": worker, "AssignmentStatus": status, "Answer": answers}


def worked(study: Study, take_part: Callable[..., str], number: int, payment: str, stamps: dict[int, str]) -> None:
    details = {"assignmentId": f"A{number}", "hitId": HIT}
    session_id = take_part(study, f"W{number}", platform="mturk", details=details)
    with study.database.write() as session:
        for submission in session.scalars(select(Submission).where(Submission.session_id == session_id)):
            submission.payment = payment
            submission.payment_reason = "Silence." if payment == "rejected" else None
        stamps[number] = str(stamp_of(study, session, session.get_one(Session, session_id)))


def settle(study: Study, market: Marketplace, **options: bool) -> dict[str, Assignment]:
    with study.database.read() as session:
        due = payouts(study, session)
    return {assignment.assignment_id: assignment for assignment in market.settle(due, **options)}


def test_what_was_submitted_is_settled_once_by_stamp_and_decision(
    study: Study, take_part: Callable[..., str], turk: tuple[Marketplace, Stubber]
) -> None:
    stamps: dict[int, str] = {}
    for number, payment in ((1, "approved"), (2, "rejected"), (3, "pending")):
        worked(study, take_part, number, payment, stamps)
    publish(turk)
    market, stubber = turk
    handed_in = [submitted(f"A{number}", f"W{number}", stamps[number]) for number in (1, 2, 3)]
    handed_in += [submitted("A4", "W4", stamps[1]), submitted("A5", "W5", "I did it &amp; it was fun")]
    listed = {"HITId": HIT, "AssignmentStatuses": ["Submitted", "Approved"], "MaxResults": 100}

    stubber.add_response("list_assignments_for_hit", {"Assignments": handed_in}, listed)
    seen = settle(study, market, dry_run=True)
    assert {name: one.decision for name, one in seen.items()} == {
        "A1": "approve", "A2": "reject", "A3": "wait", "A4": "wait", "A5": "wait",
    }  # fmt: skip

    stubber.add_response("list_assignments_for_hit", {"Assignments": handed_in}, listed)
    stubber.add_response("approve_assignment", {}, {"AssignmentId": "A1"})
    stubber.add_response("list_bonus_payments", {"BonusPayments": []}, {"AssignmentId": "A1"})
    token = seen["A1"].verdict.session_id
    bonus = {"WorkerId": "W1", "AssignmentId": "A1", "BonusAmount": "0.25", "Reason": ANY, "UniqueRequestToken": token}
    stubber.add_response("send_bonus", {}, bonus)
    stubber.add_response("reject_assignment", {}, {"AssignmentId": "A2", "RequesterFeedback": "Silence."})
    done = settle(study, market)
    assert done["A1"].bonus == 0.25
    assert {name: one.verdict.reason for name, one in done.items() if not one.verdict.ok} == {
        "A4": "not_theirs", "A5": "malformed",
    }  # fmt: skip

    # Again: what is approved is not approved anew, and no bonus is sent twice. Now what has no stamp is rejected.
    handed_in[0]["AssignmentStatus"] = "Approved"
    left = [handed_in[0], *handed_in[2:]]
    stubber.add_response("list_assignments_for_hit", {"Assignments": left}, listed)
    for name in ("A4", "A5"):
        feedback = {"AssignmentId": name, "RequesterFeedback": "The work stamp is not valid."}
        stubber.add_response("reject_assignment", {}, feedback)
    assert settle(study, market, reject_invalid=True)["A1"].bonus == 0


def test_a_bonus_that_was_sent_but_not_written_down_is_not_sent_again(
    study: Study, take_part: Callable[..., str], turk: tuple[Marketplace, Stubber]
) -> None:
    stamps: dict[int, str] = {}
    worked(study, take_part, 1, "approved", stamps)
    publish(turk)
    market, stubber = turk
    listed = {"Assignments": [submitted("A1", "W1", stamps[1], "Approved")]}
    stubber.add_response("list_assignments_for_hit", listed)
    stubber.add_response("list_bonus_payments", {"BonusPayments": [{"WorkerId": "W1", "BonusAmount": "0.25"}]})
    settle(study, market)
    stubber.add_response("list_assignments_for_hit", listed)
    assert settle(study, market)["A1"].bonus == 0


@pytest.mark.parametrize("answer", ["", "no xml", "<a/>", submitted("A", "W", "")["Answer"]])
def test_an_answer_without_stamp_gives_none(answer: str) -> None:
    assert stamp_in(answer) == ""


def html_of(study: Study) -> str:
    root = ElementTree.fromstring(question(study))
    found = root.find("{*}HTMLContent")
    assert found is not None
    return str(found.text)


def test_the_question_is_xml_whatever_the_campaign_says(study: Study) -> None:
    words = {"en": "Read <b>this</b> ]]> & go", "fr": "…"}
    study.campaign = study.campaign.model_copy(update={"instructions": words})
    assert "Read &lt;b&gt;this&lt;/b&gt; ]]&gt; &amp; go" in html_of(study)
    assert len(question(study).encode()) < 131_072


def test_both_languages_have_the_same_words() -> None:
    for key in ("preview", "open", "paste", "stamp", "submit"):
        assert translator("en")(f"mturk.{key}") != translator("fr")(f"mturk.{key}")


@pytest.mark.parametrize("phone", [True, False], ids=["phone", "desktop"])
def test_a_preview_has_no_link_and_an_accepted_task_carries_the_worker(
    open_study: Callable[..., Study], browsing: Any, phone: bool
) -> None:
    study = open_study(COLLECTION, public_url="https://study.example.org")
    html = html_of(study)
    page = browsing.page(phone=phone)
    # The frame is Mechanical Turk's; nothing of it is asked of the network.
    page.route(re.compile(".*"), lambda route: route.fulfill(content_type="text/html; charset=utf-8", body=html))
    page.goto("https://www.mturkcontent.com/dynamic/hit?assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE&hitId=H1")
    assert page.locator("#preview").is_visible()
    assert not page.locator("#link").is_visible()
    browsing.look(page, f"mturk-preview-{'phone' if phone else 'desktop'}")
    for submit, host in (
        ("https://workersandbox.mturk.com", "https://workersandbox.mturk.com"),
        ("https://evil.example.org", "https://www.mturk.com"),
    ):
        query = f"assignmentId=A1&hitId=H1&workerId=W%261&turkSubmitTo={submit}"
        page.goto(f"https://www.mturkcontent.com/dynamic/hit?{query}")
        assert not page.locator("#preview").is_visible()
        link = "https://study.example.org/?assignmentId=A1&hitId=H1&workerId=W%261"
        assert page.locator("#link").get_attribute("href") == link
        assert page.locator("#form").evaluate("form => form.action") == f"{host}/mturk/externalSubmit"
        assert page.locator("#assignment").input_value() == "A1"
    browsing.look(page, f"mturk-accepted-{'phone' if phone else 'desktop'}")
