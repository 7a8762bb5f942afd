"""A cut has happened once somebody lost a connection by it, and not before."""

import threading
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from chaos import outage
from chaos.outage import cut_at_commit, trouble
from chaos.patience import Missed
from chaos.relay import Relay, Trouble


def test_a_cut_that_nobody_meets_is_said_and_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "_PATIENCE_SECONDS", 0.1)
    with Relay("postgres", server_port=1) as relay:
        plant: Any = SimpleNamespace(relays={"postgres": relay})
        with pytest.raises(Missed):
            cut_at_commit(plant, Random(1))
        assert not relay._cuts


def test_trouble_that_nobody_meets_has_not_happened() -> None:
    with Relay("s3", server_port=1) as relay:
        plant: Any = SimpleNamespace(relays={"s3": relay}, locks={"s3": threading.Lock()})
        with pytest.raises(Missed):
            trouble("s3", Trouble(refuses=True), (0.1, 0.1), plant, Random(1))
