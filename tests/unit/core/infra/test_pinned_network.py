"""A request's network: looked up once, checked whole, connected to nothing else. Real sockets, names of our own."""

import socket
import threading
import time
from collections.abc import Callable, Sequence

import httpcore2 as httpcore
import pytest

from core.domain.address import Address, is_public
from core.infra import pinned_network
from core.infra.pinned_network import NotAllowed, PinnedNetwork, Resolve
from tests.receiver import receiving

STAND_IN = "127.0.0.2"
"""A loopback address that the tests let pass for somebody else's; 127.0.0.1 is never let pass."""


class Names:
    """Answers each look-up by the next of its answers."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0)


def only_the_stand_in(address: Address) -> bool:
    return str(address) == STAND_IN


def network(
    host: str,
    port: int,
    resolve: Resolve,
    *,
    allows: Callable[[Address], bool] = only_the_stand_in,
    seconds: float = 5.0,
) -> PinnedNetwork:
    return PinnedNetwork(host, port, resolve=resolve, allows=allows, deadline=time.monotonic() + seconds)


def post(pinned: PinnedNetwork, host: str, port: int) -> int:
    with httpcore.ConnectionPool(network_backend=pinned) as pool:
        url = httpcore.URL(scheme="http", host=host, port=port, target="/hook")
        return int(pool.request("POST", url, content=b"{}").status)


def test_the_second_look_that_would_lead_elsewhere_never_happens() -> None:
    names = Names([STAND_IN], ["127.0.0.1"])
    with receiving(host=STAND_IN) as theirs, receiving(host="127.0.0.1", port=theirs.port) as ours:
        assert post(network("hooks.example.com", theirs.port, names), "hooks.example.com", theirs.port) == 200
    assert names.asked == [("hooks.example.com", theirs.port)]
    assert [request.headers["Host"] for request in theirs.received] == [f"hooks.example.com:{theirs.port}"]
    assert ours.received == []


@pytest.mark.parametrize(
    "answer",
    [
        [STAND_IN, "127.0.0.1"],
        ["127.0.0.1", STAND_IN],
        [STAND_IN, "10.0.0.1"],
        [STAND_IN, "::ffff:127.0.0.1"],
        ["::1"],
        ["fe80::1%lo"],
        [],
    ],
)
def test_one_address_that_is_not_allowed_is_one_too_many(answer: list[str]) -> None:
    with receiving(host=STAND_IN) as theirs, receiving(host="127.0.0.1", port=theirs.port) as ours:
        pinned = network("hooks.example.com", theirs.port, Names(answer))
        with pytest.raises(NotAllowed):
            post(pinned, "hooks.example.com", theirs.port)
        assert theirs.received == ours.received == []


def test_by_the_real_rule_a_name_that_leads_here_is_refused_unheard() -> None:
    with receiving() as ours:
        for answer in (["127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["169.254.169.254"], ["64:ff9b::7f00:1"]):
            pinned = network("hooks.example.com", ours.port, Names(answer), allows=is_public)
            with pytest.raises(NotAllowed):
                post(pinned, "hooks.example.com", ours.port)
        assert ours.received == []


def test_an_address_is_checked_and_looked_up_by_nobody() -> None:
    names = Names()
    with receiving(host=STAND_IN) as theirs:
        assert post(network(STAND_IN, theirs.port, names), STAND_IN, theirs.port) == 200
    with receiving() as ours, pytest.raises(NotAllowed):
        post(network("127.0.0.1", ours.port, names), "127.0.0.1", ours.port)
    assert names.asked == []
    assert ours.received == []


def test_another_host_port_or_time_is_refused() -> None:
    names = Names([STAND_IN], [STAND_IN])
    with receiving(host=STAND_IN) as theirs:
        pinned = network("hooks.example.com", theirs.port, names)
        for host, port in (("other.example.com", theirs.port), ("hooks.example.com", theirs.port + 1)):
            with pytest.raises(NotAllowed):
                pinned.connect_tcp(host, port)
        pinned.connect_tcp("hooks.example.com", theirs.port).close()
        with pytest.raises(NotAllowed):
            pinned.connect_tcp("hooks.example.com", theirs.port)
    assert len(names.asked) == 1


def test_the_next_address_is_tried_where_one_takes_no_connection() -> None:
    with receiving(host=STAND_IN) as theirs:
        names = Names(["127.0.0.3", STAND_IN])
        pinned = network("a.example.com", theirs.port, names, allows=lambda address: str(address) != "127.0.0.1")
        assert post(pinned, "a.example.com", theirs.port) == 200


def test_what_cannot_be_looked_up_or_is_no_address_is_refused() -> None:
    def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(NotAllowed):
        network("none.example.com", 1, unknown).connect_tcp("none.example.com", 1)
    with pytest.raises(ValueError, match="nonsense"):
        network("none.example.com", 1, Names(["nonsense"])).connect_tcp("none.example.com", 1)


def test_a_look_up_that_does_not_end_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned_network, "CONNECT_SECONDS", 0.05)
    ended = threading.Event()

    def slow(host: str, port: int) -> Sequence[str]:
        ended.wait()
        return [STAND_IN]

    with pytest.raises(httpcore.ConnectTimeout):
        network("slow.example.com", 1, slow).connect_tcp("slow.example.com", 1)
    ended.set()


def test_nothing_begins_after_the_deadline() -> None:
    with receiving(host=STAND_IN) as theirs, pytest.raises(httpcore.TimeoutException):
        post(network("a.example.com", theirs.port, Names([STAND_IN]), seconds=0), "a.example.com", theirs.port)
