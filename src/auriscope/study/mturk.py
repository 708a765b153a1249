"""Mechanical Turk through its API: publishing the task, watching it, ending it, approving and paying bonuses.

The task is a survey link: a page of ours inside Mechanical Turk (``HTMLQuestion``) with the study's address and a
field for the work stamp. The sandbox is used unless real money is asked for twice, in the campaign and in the call.

Request tokens guard against doing something twice, but Mechanical Turk forgets them after 24 hours. So what is about to
be created is written down first, and found again by its ``RequesterAnnotation``; bonuses are looked up before they are
sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from jinja2 import Environment, StrictUndefined

from auriscope.errors import AuriscopeError
from auriscope.study.campaign import MechanicalTurk
from auriscope.study.crowd import Decision, Payout, record_bonuses
from auriscope.study.ids import new_id, now
from auriscope.study.payments import BONUS_REASON
from auriscope.study.schema import Setting
from auriscope.study.stamps import Verdict, redeem_for_assignment
from auriscope.study.study import Study, audit
from auriscope.study.words import translator

SANDBOX = "https://mturk-requester-sandbox.us-east-1.amazonaws.com"
PRODUCTION = "https://mturk-requester.us-east-1.amazonaws.com"
STAMP_FIELD = "surveycode"

_SETTING = "hits"
_ANSWERS = "{http://mechanicalturk.amazonaws.com/AWSMechanicalTurkDataSchemas/2005-10-01/QuestionFormAnswers.xsd}"
_QUESTION = (
    '<HTMLQuestion xmlns="http://mechanicalturk.amazonaws.com/AWSMechanicalTurkDataSchemas/2011-11-11/HTMLQuestion.xsd">'
    "<HTMLContent><![CDATA[{html}]]></HTMLContent><FrameHeight>0</FrameHeight></HTMLQuestion>"
)
_LONGEST_FEEDBACK = 1024
_LONGEST_DESCRIPTION = 2000


@dataclass(frozen=True)
class Hit:
    """A task on Mechanical Turk and how far it has come; ``link`` is where workers find it."""

    hit_id: str
    is_sandbox: bool
    status: str
    link: str
    num_wanted: int
    num_pending: int
    num_available: int
    num_submitted: int
    num_approved: int
    num_rejected: int
    expires_at: datetime | None


@dataclass(frozen=True)
class Assignment:
    """What became of an assignment: the verdict on its stamp, the decision, and the bonus that was sent."""

    assignment_id: str
    worker: str
    verdict: Verdict
    decision: Decision
    reason: str
    bonus: float


@dataclass
class Marketplace:
    """Mechanical Turk as one study uses it."""

    study: Study
    client: Any
    is_sandbox: bool
    _campaign: MechanicalTurk = field(init=False)

    def __post_init__(self) -> None:
        if self.study.campaign.mturk is None:
            raise AuriscopeError("the campaign says nothing of Mechanical Turk; add the section mturk to campaign.yaml")
        self._campaign = self.study.campaign.mturk

    def publish(self) -> str:
        """Publish the task and give its HITId; a task whose publishing broke off is taken up and not made twice."""
        address = self.study.settings.public_url
        if urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1"):
            raise AuriscopeError(
                f"workers cannot open {address}; set public_url in server.yaml to the address they can open"
            )
        token, is_new = self._plan()
        hit = None if is_new else self._find(token)
        if hit is None:
            hit = self._create(token)
        with self.study.database.write(alone=_SETTING) as session:
            setting = session.get_one(Setting, _SETTING)
            entries = [dict(entry) for entry in setting.value["hits"]]
            for entry in entries:
                if entry["token"] == token:
                    entry.update(hit_id=hit["HITId"], group=hit.get("HITGroupId", ""), published_at=now().isoformat())
            setting.value, setting.changed_at = {"hits": entries}, now()
            audit(session, "command", "hits.publish", hit["HITId"], {"sandbox": self.is_sandbox})
        return str(hit["HITId"])

    def status(self) -> list[Hit]:
        """Ask how far the published tasks have come."""
        return [self._status(entry) for entry in self._published()]

    def expire(self) -> list[str]:
        """Let nobody new accept the published tasks, and name them; those who have accepted may finish."""
        hits = [entry["hit_id"] for entry in self._published()]
        for hit_id in hits:
            with _asking():
                self.client.update_expiration_for_hit(HITId=hit_id, ExpireAt=datetime(2015, 1, 1, tzinfo=UTC))
        with self.study.database.write() as session:
            for hit_id in hits:
                audit(session, "command", "hits.expire", hit_id, {"sandbox": self.is_sandbox})
        return hits

    def settle(
        self, payouts: Sequence[Payout], *, reject_invalid: bool = False, dry_run: bool = False
    ) -> list[Assignment]:
        """Approve or reject what workers have submitted, as the sessions of their stamps deserve, and send bonuses.

        Assignments whose session waits for a decision stay open, and so do those without a valid stamp unless
        ``reject_invalid``. Running it again does nothing twice. ``dry_run`` only says what would be done.
        """
        due = {payout.session_id: payout for payout in payouts}
        settled = []
        for entry in self._published():
            for assignment in self._assignments(entry["hit_id"], ["Submitted", "Approved"]):
                settled.append(self._settle(assignment, due, reject_invalid, dry_run))
        return settled

    def _settle(
        self, assignment: dict[str, Any], due: dict[str, Payout], reject_invalid: bool, dry_run: bool
    ) -> Assignment:
        name, worker = assignment["AssignmentId"], assignment["WorkerId"]
        text = stamp_in(assignment.get("Answer", ""))
        verdict = redeem_for_assignment(self.study, text, worker, name, dry_run=dry_run)
        payout = due.get(verdict.session_id or "") if verdict.ok else None
        decision: Decision = "wait"
        reason = ""
        if payout is not None:
            decision, reason = payout.decision, payout.reason
        elif not verdict.ok and reject_invalid:
            decision, reason = "reject", "The work stamp is not valid."
        is_open = assignment["AssignmentStatus"] == "Submitted"
        if is_open and not dry_run:
            self._decide(name, decision, reason, verdict.session_id)
        bonus = 0.0
        if payout is not None and decision == "approve" and payout.bonus > 0 and not payout.bonus_is_handed_out:
            bonus = payout.bonus
            if not dry_run:
                self._send_bonus(name, worker, payout)
        return Assignment(name, worker, verdict, decision, reason, bonus)

    def _decide(self, assignment_id: str, decision: Decision, reason: str, session_id: str | None) -> None:
        if decision == "wait":
            return
        with _asking():
            if decision == "approve":
                self.client.approve_assignment(AssignmentId=assignment_id)
            else:
                feedback = reason[:_LONGEST_FEEDBACK]
                self.client.reject_assignment(AssignmentId=assignment_id, RequesterFeedback=feedback)
        with self.study.database.write() as session:
            audit(session, "command", f"hits.{decision}", session_id, {"sandbox": self.is_sandbox})

    def _send_bonus(self, assignment_id: str, worker: str, payout: Payout) -> None:
        with _asking():
            sent = self.client.list_bonus_payments(AssignmentId=assignment_id).get("BonusPayments", [])
            if not sent:
                self.client.send_bonus(
                    WorkerId=worker,
                    BonusAmount=f"{payout.bonus:.2f}",
                    AssignmentId=assignment_id,
                    Reason=BONUS_REASON,
                    UniqueRequestToken=payout.session_id,
                )
        record_bonuses(self.study, [payout], "command")

    def _plan(self) -> tuple[str, bool]:
        """Write down that a task is going to be published, and give its token, and whether it is a new one."""
        with self.study.database.write(alone=_SETTING) as session:
            setting = session.get(Setting, _SETTING)
            if setting is None:
                setting = Setting(name=_SETTING, value={"hits": []})
                session.add(setting)
            for entry in setting.value["hits"]:
                if entry["hit_id"] is None and entry["sandbox"] == self.is_sandbox:
                    return entry["token"], False
            token = new_id("hit")
            entry = {"token": token, "sandbox": self.is_sandbox, "hit_id": None, "group": ""}
            setting.value, setting.changed_at = {"hits": [*setting.value["hits"], entry]}, now()
            return token, True

    def _find(self, token: str) -> dict[str, Any] | None:
        """Look among all tasks of the account for the one that carries a token."""
        page: dict[str, str] = {}
        while True:
            with _asking():
                answer = self.client.list_hits(MaxResults=100, **page)
            for hit in answer.get("HITs", []):
                if hit.get("RequesterAnnotation") == token:
                    return dict(hit)
            if not answer.get("NextToken"):
                return None
            page = {"NextToken": answer["NextToken"]}

    def _create(self, token: str) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        campaign, words = self._campaign, self.study.campaign
        language = words.languages[0]
        wanted: dict[str, Any] = {
            "Title": words.title[language],
            "Description": words.instructions[language][:_LONGEST_DESCRIPTION],
            "Keywords": campaign.keywords,
            "Reward": f"{campaign.reward:.2f}",
            "MaxAssignments": campaign.max_assignments,
            "AssignmentDurationInSeconds": 60 * campaign.duration_minutes,
            "LifetimeInSeconds": 86_400 * campaign.lifetime_days,
            "AutoApprovalDelayInSeconds": 86_400 * campaign.auto_approval_days,
            "Question": question(self.study),
            "RequesterAnnotation": token,
            "UniqueRequestToken": token,
        }
        if campaign.qualifications:
            wanted["QualificationRequirements"] = campaign.qualifications
        with _asking():
            try:
                return dict(self.client.create_hit(**wanted)["HIT"])
            except ClientError as error:
                # An answer that was lost: the task is there.
                if "alreadyexists" not in str(error.response).lower() or (hit := self._find(token)) is None:
                    raise
                return hit

    def _published(self) -> list[dict[str, Any]]:
        with self.study.database.read() as session:
            setting = session.get(Setting, _SETTING)
            entries = [] if setting is None else list(setting.value["hits"])
        return [entry for entry in entries if entry["hit_id"] and entry["sandbox"] == self.is_sandbox]

    def _assignments(self, hit_id: str, statuses: list[str]) -> Iterator[dict[str, Any]]:
        page: dict[str, str] = {}
        while True:
            with _asking():
                answer = self.client.list_assignments_for_hit(
                    HITId=hit_id, AssignmentStatuses=statuses, MaxResults=100, **page
                )
            yield from answer.get("Assignments", [])
            if not answer.get("NextToken"):
                return
            page = {"NextToken": answer["NextToken"]}

    def _status(self, entry: dict[str, Any]) -> Hit:
        with _asking():
            hit = self.client.get_hit(HITId=entry["hit_id"])["HIT"]
        made = list(self._assignments(entry["hit_id"], ["Submitted", "Approved", "Rejected"]))
        counts = {name: sum(one["AssignmentStatus"] == name for one in made) for name in ("Approved", "Rejected")}
        host = "workersandbox.mturk.com" if self.is_sandbox else "worker.mturk.com"
        return Hit(
            hit_id=hit["HITId"],
            is_sandbox=self.is_sandbox,
            status=hit["HITStatus"],
            link=f"https://{host}/projects/{hit.get('HITGroupId', entry['group'])}/tasks",
            num_wanted=hit["MaxAssignments"],
            num_pending=hit.get("NumberOfAssignmentsPending", 0),
            num_available=hit.get("NumberOfAssignmentsAvailable", 0),
            num_submitted=len(made),
            num_approved=counts["Approved"],
            num_rejected=counts["Rejected"],
            expires_at=hit.get("Expiration"),
        )


def connect(study: Study, *, real_money: bool) -> Marketplace:
    """Connect to Mechanical Turk with the credentials of the environment (``AWS_ACCESS_KEY_ID`` or ``~/.aws``)."""
    if study.campaign.mturk is not None and real_money and study.campaign.mturk.sandbox:
        raise AuriscopeError("the campaign keeps to the sandbox; set mturk.sandbox to false in campaign.yaml as well")
    try:
        import boto3
    except ModuleNotFoundError:
        raise AuriscopeError("Mechanical Turk needs the package boto3: pip install 'auriscope[study-scale]'") from None
    endpoint = PRODUCTION if real_money else SANDBOX
    with _asking():
        client = boto3.client("mturk", region_name="us-east-1", endpoint_url=endpoint)
    return Marketplace(study, client, is_sandbox=not real_money)


def question(study: Study) -> str:
    """Give the task's page, as XML: what it is about, the link, and a field for the stamp; a preview has no link."""
    campaign = study.campaign
    language = campaign.languages[0]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files("auriscope.study").joinpath("templates", "mturk.html.j2").read_text(encoding="utf-8")
    html = environment.from_string(source).render(
        t=translator(language),
        language=language,
        title=campaign.title[language],
        instructions=campaign.instructions[language],
        contact=campaign.contact,
        address=study.settings.public_url.rstrip("/") + "/",
    )
    # The end of the CDATA section, should a campaign write it, is split over two sections.
    return _QUESTION.format(html=html.replace("]]>", "]]]]><![CDATA[>"))


def stamp_in(answer: str) -> str:
    """Give what a worker wrote into the field for the stamp, from the answer's XML; empty if there is none."""
    try:
        root = ElementTree.fromstring(answer)
    except ElementTree.ParseError:
        return ""
    for one in root.iter(f"{_ANSWERS}Answer"):
        if one.findtext(f"{_ANSWERS}QuestionIdentifier") == STAMP_FIELD:
            return (one.findtext(f"{_ANSWERS}FreeText") or "").strip()
    return ""


@contextmanager
def _asking() -> Iterator[None]:
    """Turn what Mechanical Turk, or the way to it, refuses into one line."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise AuriscopeError(f"Mechanical Turk: {' '.join(str(error).split())}") from None
