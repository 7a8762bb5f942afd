import socket
import stat
from pathlib import Path

import pytest

from cli.ledger import Ledger, is_free, write_private
from cli.process import Mark
from cli.refusal import Refusal


def test_ports_and_secrets_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "embedded.json"
    first = Ledger(path)
    port, secret = first.port("postgres"), first.secret("postgres")
    again = Ledger(path)
    assert (again.port("postgres"), again.secret("postgres")) == (port, secret)
    assert first.secret("valkey") != secret


def test_a_port_that_was_taken_is_replaced(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "embedded.json")
    port = ledger.port("postgres")
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", port))
        taker.listen()
        assert not is_free("127.0.0.1", port)
        assert ledger.port("postgres") != port


def test_processes_are_kept_in_order_and_by_name(tmp_path: Path) -> None:
    path = tmp_path / "embedded.json"
    ledger = Ledger(path)
    for name, pid in (("a", 1), ("b", 2), ("a", 3)):
        ledger.add(Mark(name=name, pid=pid, born="then", group=pid))
    assert [(mark.name, mark.pid) for mark in Ledger(path).marks] == [("b", 2), ("a", 3)]
    ledger.clear()
    assert Ledger(path).marks == []


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "embedded.json"
    Ledger(path).secret("postgres")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loose = tmp_path / "loose"
    loose.touch(mode=0o644)
    write_private(loose, "secret")
    assert stat.S_IMODE(loose.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "{", "[]", '{"ports": {}}', '{"ports": 1, "secrets": 2, "processes": 3}'])
def test_a_damaged_file_is_explained(tmp_path: Path, content: str) -> None:
    path = tmp_path / "embedded.json"
    path.write_text(content)
    with pytest.raises(Refusal, match="is damaged"):
        Ledger(path)
