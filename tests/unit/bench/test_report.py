"""What every benchmark says of its figures."""

from bench.report import quantiles


def test_quantiles_of_none_of_one_and_of_many() -> None:
    assert quantiles([]) == {"count": 0}
    assert quantiles([2.0]) == {"count": 1, "p50": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}
    many = quantiles([float(n) for n in range(101)])
    assert (many["p50"], many["p99"], many["max"]) == (50.0, 99.0, 100.0)
