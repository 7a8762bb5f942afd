"""A cut has happened once somebody lost a connection by it, and not before."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from chaos import outage
from chaos.outage import cut_at_commit
from chaos.patience import Missed
from chaos.relay import Relay


def test_a_cut_that_nobody_meets_is_said_and_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "_PATIENCE_SECONDS", 0.1)
    with Relay("postgres", server_port=1) as relay:
        plant: Any = SimpleNamespace(relays={"postgres": relay})
        with pytest.raises(Missed):
            cut_at_commit(plant, Random(1))
        assert not relay._cuts
