"""The parts of `d3po up` that need no running stack."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server import broker_socket, embedded
from server.broker_socket import socket_path
from server.domain import jobs, people
from server.errors import Conflict
from server.models import Job, Project, Round, User


def test_a_data_folder_is_held_by_one(tmp_path: Path) -> None:
    with embedded.hold(tmp_path / "data"), pytest.raises(Conflict, match="d3po is already running on"):
        embedded.hold(tmp_path / "data")
    with embedded.hold(tmp_path / "data"):
        pass


def test_a_taken_port_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Conflict, match="Address already in use"):
            embedded.check_port("127.0.0.1", taken.getsockname()[1])


def test_a_folder_or_an_address_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Conflict, match="cannot hold the data: Not a directory"):
        embedded.hold(tmp_path / "file" / "data")
    with pytest.raises(Conflict, match="There is no address no host to listen on"):
        embedded.check_port("no host", 8000)


def test_a_deep_data_folder_has_its_socket_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30)
    assert len(str(socket_path(deep))) <= broker_socket.LONGEST_PATH
    assert socket_path(deep) != socket_path(deep / "er")
    assert socket_path(Path("/data")) == Path("/data/broker/valkey.sock")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80"),
        ("studio.local", "http://studio.local:80"),
    ],
)  # fmt: skip
def test_the_address_for_a_browser_on_this_machine(host: str, url: str) -> None:
    assert embedded.url(host, 80) == url


def test_the_first_start_makes_the_demo_and_the_second_makes_nothing(session: Session) -> None:
    assert embedded.first_start(session)
    assert session.scalars(select(Project.name)).all() == [embedded.DEMO]
    first = session.scalars(select(Round)).one()
    sizes = [len(payload["prompts"]) for payload in session.scalars(select(Job.payload).order_by(Job.id))]
    assert (first.kind, sizes[0], sum(sizes)) == ("sample", 1, first.params["prompts"])
    assert not embedded.first_start(session)
    assert session.scalar(select(func.count()).select_from(Round)) == 1


def test_the_first_round_began_once_a_worker_took_a_job(session: Session) -> None:
    embedded.first_start(session)
    assert not embedded.first_round_began(session)
    first = session.scalars(select(Job).order_by(Job.id)).first()
    assert first is not None
    assert jobs.claim(session, first.id, "here:1")
    assert embedded.first_round_began(session)


def test_each_start_has_a_fresh_link_for_the_first_admin(session: Session) -> None:
    embedded.first_start(session)
    links = [embedded.sign_in_link(session, "http://here") for _ in range(2)]
    assert links[0] != links[1]
    for link in links:
        assert people.use_sign_in_link(session, link.removeprefix("http://here/sign-in/")).name == embedded.ADMIN
    assert session.scalar(select(func.count()).select_from(User)) == 1
