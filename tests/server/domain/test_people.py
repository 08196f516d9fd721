"""Who gets in, and what they may do."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain import people
from server.errors import Conflict, Denied, Gone, Invalid, NotSignedIn
from server.models import Audit, Credential, Project
from tests import factories
from tests.databases import on_both_databases

PASSWORD = "correct horse battery"


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


class TestPasswords:
    def test_the_right_one_opens(self, session: Session) -> None:
        alice = people.create_user(session, " Alice ", password=PASSWORD)
        assert (alice.name, people.check_password(session, "alice", PASSWORD).id) == ("Alice", alice.id)
        assert (alice.password_hash or "").startswith("$argon2id$")

    def test_wrong_unknown_missing_and_revoked_sound_the_same(self, session: Session) -> None:
        people.create_user(session, "Alice", password=PASSWORD)
        people.create_user(session, "Bob")
        gone = people.create_user(session, "Carol", password=PASSWORD)
        people.revoke(session, factories.admin(), gone)
        for name, password in (("Alice", "wrong"), ("Nobody", PASSWORD), ("Bob", ""), ("Carol", PASSWORD)):
            with pytest.raises(NotSignedIn, match="do not belong together"):
                people.check_password(session, name, password)

    @pytest.mark.parametrize("password", ["", "short", "x" * 201])
    def test_it_has_a_decent_length(self, session: Session, password: str) -> None:
        with pytest.raises(Invalid, match="10 to 200 characters"):
            people.create_user(session, "Alice", password=password)


@pytest.mark.parametrize("name", ["", "   ", "x" * 81])
def test_a_name_has_a_length(session: Session, name: str) -> None:
    with pytest.raises(Invalid, match="1 to 80 characters"):
        people.create_user(session, name)


def test_a_name_is_taken_once_whatever_its_case(session: Session) -> None:
    people.create_user(session, "Alice")
    with pytest.raises(Conflict, match="already somebody called alice"):
        people.create_user(session, "alice")


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
        secret = people.invite(session, factories.operator(project), project, "annotator")
        carol = people.accept_invitation(session, secret, "Carol", PASSWORD)
        assert people.role_in(session, carol, project) == "annotator"
        assert people.check_password(session, "Carol", PASSWORD).id == carol.id
        with pytest.raises(Gone, match="used already"):
            people.accept_invitation(session, secret, "Dave", PASSWORD)

    def test_a_refused_name_leaves_the_invitation_open(self, session: Session, project: Project) -> None:
        secret = people.invite(session, factories.operator(project, name="Alice"), project, "annotator")
        with pytest.raises(Conflict):
            people.accept_invitation(session, secret, "Alice", PASSWORD)
        assert people.accept_invitation(session, secret, "Carol", PASSWORD).name == "Carol"

    def test_annotators_do_not_invite_and_nobody_invites_admins(self, session: Session, project: Project) -> None:
        with pytest.raises(Denied, match="needs the role operator"):
            people.invite(session, factories.annotator(project), project, "annotator")
        with pytest.raises(Invalid, match="operator or annotator"):
            people.invite(session, factories.admin(), project, "admin")


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
        assert session.scalars(select(Audit.action).where(Audit.subject == bob.id)).all() == ["revoke"]

    def test_only_admins_revoke_and_never_themselves(self, session: Session, project: Project) -> None:
        admin, bob = factories.admin(), factories.annotator(project)
        with pytest.raises(Denied, match="Only an admin"):
            people.revoke(session, factories.operator(project), bob)
        with pytest.raises(Conflict, match="your own access"):
            people.revoke(session, admin, admin)
