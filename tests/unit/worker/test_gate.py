"""The gate: a suspect comes in alone."""

from uuid import uuid4

from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.job import JobKind
from core.services.run import Claim
from worker.gate import Gate


def claim(*, is_suspect: bool = False) -> Claim:
    return Claim(
        job_id=uuid4(),
        claim_epoch=1,
        kind=JobKind.GENERATION,
        tenant_id=uuid4(),
        plan={},
        model=ModelHandle(uuid4(), "model", "/nowhere", None, LoadOptions()),
        dataset_id=None,
        is_suspect=is_suspect,
    )


def test_whoever_asks_is_told_whether_he_would_be_alone() -> None:
    gate, told = Gate(), list[bool]()

    def ask(is_alone: bool) -> Claim:
        told.append(is_alone)
        return claim()

    gate.let_in(ask)
    gate.let_in(ask)
    gate.let_out()
    gate.let_out()
    gate.let_in(ask)
    assert told == [True, False, True]


def test_nobody_comes_in_beside_a_suspect() -> None:
    gate = Gate()
    assert gate.let_in(lambda _: claim(is_suspect=True)) is not None
    assert gate.let_in(lambda _: claim()) is None
    gate.let_out()
    assert gate.let_in(lambda _: claim()) is not None


def test_who_found_nothing_is_not_inside() -> None:
    gate = Gate()
    assert gate.let_in(lambda _: None) is None
    assert gate.let_in(lambda is_alone: claim() if is_alone else None) is not None
