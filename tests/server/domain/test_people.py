"""Who gets in, and what they may do."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain import invitations, people
from server.errors import Conflict, Denied, Gone, Invalid, NotFound, NotSignedIn
from server.models import Audit, Credential, Project
from tests import factories
from tests.databases import on_both_databases

HASH = "as passwords.hashed() gave it"


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


@pytest.mark.parametrize("name", ["", "   ", "x" * 81])
def test_a_name_has_a_length(session: Session, name: str) -> None:
    with pytest.raises(Invalid, match="1 to 80 characters"):
        people.create_user(session, name)


def test_a_name_is_taken_once_whatever_its_case(session: Session) -> None:
    people.create_user(session, "Alice")
    with pytest.raises(Conflict, match="already somebody called alice"):
        people.create_user(session, "alice")


@pytest.mark.parametrize("taken", ["ＡＬＩＣＥ  Smith", "aliCE\u00a0smith", " Alice smith "])
def test_a_name_that_looks_the_same_is_taken(session: Session, taken: str) -> None:
    made = people.create_user(session, "Alice Smith")
    with pytest.raises(Conflict, match="looks the same"):
        people.create_user(session, taken)
    assert people.find(session, taken).id == made.id


@pytest.mark.parametrize("name", ["admin\u200b", "ad\x00min", "\ud800", "\u202enimda"])
def test_a_name_hides_nothing(session: Session, name: str) -> None:
    with pytest.raises(Invalid, match="only characters that others can see"):
        people.create_user(session, name)


def test_secrets_are_not_in_the_database(session: Session) -> None:
    alice = factories.user()
    secrets = [
        people.issue_token(session, alice, "laptop"),
        people.start_session(session, alice)[0],
        people.new_sign_in_link(session, alice),
    ]
    assert secrets[0].startswith("d3po_")
    stored = {value for row in session.scalars(select(Credential)) for value in vars(row).values()}
    assert not stored & set(secrets)


def test_a_secret_opens_only_its_own_kind_of_door(session: Session) -> None:
    alice = factories.user()
    token = people.issue_token(session, alice, "laptop")
    assert people.user_of_token(session, token).id == alice.id
    with pytest.raises(NotSignedIn):
        people.user_of_session(session, token)
    with pytest.raises(Gone):
        people.use_sign_in_link(session, token)


def test_a_sign_in_link_works_once(session: Session) -> None:
    alice = factories.user()
    secret = people.new_sign_in_link(session, alice)
    assert people.use_sign_in_link(session, secret).id == alice.id
    with pytest.raises(Gone, match="used already"):
        people.use_sign_in_link(session, secret)


class TestInvitations:
    @on_both_databases
    def test_an_invited_person_joins_with_the_role(self, session: Session, project: Project) -> None:
        secret = invitations.invite(session, factories.operator(project), project, "annotator")
        carol = invitations.accept(session, secret, "Carol", HASH)
        assert people.role_in(session, carol, project) == "annotator"
        assert carol.password_hash == HASH
        with pytest.raises(Gone, match="used already"):
            invitations.accept(session, secret, "Dave", HASH)

    def test_a_refused_name_leaves_the_invitation_open(self, session: Session, project: Project) -> None:
        secret = invitations.invite(session, factories.operator(project, name="Alice"), project, "annotator")
        with pytest.raises(Conflict):
            invitations.accept(session, secret, "Alice", HASH)
        assert invitations.accept(session, secret, "Carol", HASH).name == "Carol"

    def test_annotators_do_not_invite_and_nobody_invites_admins(self, session: Session, project: Project) -> None:
        with pytest.raises(Denied, match="needs the role operator"):
            invitations.invite(session, factories.annotator(project), project, "annotator")
        with pytest.raises(Invalid, match="operator or annotator"):
            invitations.invite(session, factories.admin(), project, "admin")

    def test_they_are_listed_until_used_or_withdrawn(self, session: Session, project: Project) -> None:
        alice = factories.operator(project, name="Alice")
        used, withdrawn, left = (invitations.invite(session, alice, project, "annotator") for _ in range(3))
        invitations.accept(session, used, "Carol", HASH)
        invitations.withdraw(session, alice, invitations.find(session, withdrawn).id)
        [one] = invitations.list_open(session, alice, project)
        assert (one.id, one.role, one.by) == (invitations.find(session, left).id, "annotator", "Alice")
        with pytest.raises(Gone, match="withdrawn"):
            invitations.find(session, withdrawn)
        with pytest.raises(NotFound, match="no such open invitation"):
            invitations.withdraw(session, alice, one.id[::-1])
        with pytest.raises(Denied, match="needs the role operator"):
            invitations.withdraw(session, factories.annotator(project), one.id)

    def test_whoever_is_revoked_does_not_come_back_by_an_invitation_of_their_own(
        self, session: Session, project: Project
    ) -> None:
        admin, bob = factories.admin(), factories.operator(project, name="Bob")
        secret = invitations.invite(session, bob, project, "operator")
        people.revoke(session, admin, bob)
        with pytest.raises(Gone):
            invitations.accept(session, secret, "Bob again", HASH)
        assert invitations.list_open(session, admin, project) == []

    def test_an_invitation_is_worth_what_its_maker_may(self, session: Session, project: Project) -> None:
        bob = factories.operator(project)
        secret = invitations.invite(session, bob, project, "operator")
        people.add_member(session, project.id, bob, "annotator")
        with pytest.raises(Gone, match="may not invite people any more"):
            invitations.accept(session, secret, "Carol", HASH)

    @on_both_databases
    def test_somebody_who_is_known_joins_one_more_project(self, session: Session, project: Project) -> None:
        carol = factories.annotator(factories.project())
        boss = factories.operator(project)
        invitations.join(session, invitations.invite(session, boss, project, "annotator"), carol)
        assert people.role_in(session, carol, project) == "annotator"
        again = invitations.invite(session, boss, project, "annotator")
        with pytest.raises(Conflict, match="annotator in this project already"):
            invitations.join(session, again, carol)
        assert invitations.join(session, invitations.invite(session, boss, project, "operator"), carol) == project.id
        assert people.role_in(session, carol, project) == "operator"


def test_only_an_admin_makes_a_sign_in_link_for_somebody(session: Session, project: Project) -> None:
    admin, bob = factories.admin(), factories.annotator(project)
    assert people.use_sign_in_link(session, people.make_sign_in_link(session, admin, bob)).id == bob.id
    with pytest.raises(Denied, match="Only an admin"):
        people.make_sign_in_link(session, factories.operator(project), bob)
    people.revoke(session, admin, bob)
    with pytest.raises(Conflict, match="no access any more"):
        people.make_sign_in_link(session, admin, bob)


def test_tokens_are_ones_own_to_revoke(session: Session) -> None:
    alice, bob = factories.user(), factories.user()
    secrets = [people.issue_token(session, alice, label) for label in ("laptop", "server")]
    laptop = next(token for token in people.tokens(session, alice) if token.label == "laptop")
    with pytest.raises(NotFound, match="no such token"):
        people.revoke_token(session, bob, laptop.id)
    people.revoke_token(session, alice, laptop.id)
    assert [token.label for token in people.tokens(session, alice)] == ["server"]
    assert people.user_of_token(session, secrets[1]).id == alice.id
    with pytest.raises(NotSignedIn):
        people.user_of_token(session, secrets[0])


def test_a_new_password_ends_every_session(session: Session) -> None:
    alice = factories.user()
    cookie, _ = people.start_session(session, alice)
    people.set_password(session, alice, HASH)
    with pytest.raises(NotSignedIn):
        people.user_of_session(session, cookie)


class TestRights:
    def test_roles_include_the_lower_ones(self, session: Session, project: Project) -> None:
        people.require(session, factories.operator(project), project, "annotator")
        people.require(session, factories.admin(), project, "operator")
        with pytest.raises(Denied, match="needs the role operator; you are annotator"):
            people.require(session, factories.annotator(project), project, "operator")

    def test_a_role_holds_in_its_project_only(self, session: Session, project: Project) -> None:
        with pytest.raises(Denied, match="not a member"):
            people.require(session, factories.operator(factories.project()), project, "annotator")

    def test_whoever_is_revoked_is_out_everywhere(self, session: Session, project: Project) -> None:
        bob = factories.annotator(project)
        token, (cookie, _) = people.issue_token(session, bob, "laptop"), people.start_session(session, bob)
        people.revoke(session, factories.admin(), bob)
        with pytest.raises(NotSignedIn):
            people.user_of_token(session, token)
        with pytest.raises(NotSignedIn):
            people.user_of_session(session, cookie)
        assert "revoke" in session.scalars(select(Audit.action).where(Audit.subject == bob.id)).all()

    def test_only_admins_revoke_and_never_themselves(self, session: Session, project: Project) -> None:
        admin, bob = factories.admin(), factories.annotator(project)
        with pytest.raises(Denied, match="Only an admin"):
            people.revoke(session, factories.operator(project), bob)
        with pytest.raises(Conflict, match="your own access"):
            people.revoke(session, admin, admin)
