"""What every benchmark says of its figures."""

import json
from pathlib import Path

import pytest

from bench import report
from bench.claim import Claim
from bench.claim import write as write_claims
from bench.report import quantiles


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_quantiles_of_none_of_one_and_of_many() -> None:
    assert quantiles([]) == {"count": 0}
    assert quantiles([2.0]) == {"count": 1, "p50": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}
    many = quantiles([float(n) for n in range(101)])
    assert (many["p50"], many["p99"], many["max"]) == (50.0, 99.0, 100.0)


@pytest.mark.parametrize(("ratio", "at_most", "is_met"), [(0.9, False, True), (0.8, False, False), (1.0, True, False)])
def test_a_missed_target_is_said_and_the_figures_are_kept(
    results: Path, capsys: pytest.CaptureFixture[str], ratio: float, at_most: bool, is_met: bool
) -> None:
    figures = {"ours": [1.0, 2.0]}
    assert report.write("one", unit="ms", figures=figures, ratio=ratio, target=0.9, at_most=at_most) == is_met
    assert ("MISSED" in capsys.readouterr().out) != is_met
    kept = json.loads((results / "one.json").read_text())
    assert (kept["figures"], kept["ratio"], kept["machine"]["cores"]) == (figures, ratio, report.machine()["cores"])


def test_one_missed_claim_is_enough(tmp_path: Path) -> None:
    met, missed = Claim(1, "met", 1.0, 0.9), Claim(1, "missed", 0.5, 0.9)
    for claims, is_met in (([met], True), ([met, missed], False)):
        assert write_claims("claims", claims, command="", figures={}, setting={}, to=tmp_path) == is_met
