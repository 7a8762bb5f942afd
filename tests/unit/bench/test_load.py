"""The plan of the load is the same for both tools, and locust's figures are read as they are meant."""

import ast
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench.load import A_SECOND, USERS, read
from cli.environment import ROOT

JMX = ROOT / "bench" / "jmeter" / "generate.jmx"
PLAN = ROOT / "bench" / "locust" / "plan.py"


def constant(path: Path, name: str) -> object:
    """A constant of a module that cannot be imported here."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise KeyError(name)


def test_both_tools_run_the_same_plan() -> None:
    values = {node.get("name"): node.text for node in ET.parse(JMX).getroot().iter() if node.get("name")}
    assert values["ThreadGroup.num_threads"] == str(USERS)
    assert values["ThreadGroup.ramp_time"] == str(USERS // A_SECOND)
    assert values["LoopController.loops"] == str(constant(PLAN, "LOOPS"))
    assert (values["HTTPSampler.method"], values["HTTPSampler.path"]) == ("POST", "/api/generate")
    assert ast.literal_eval(values["Argument.value"] or "") == constant(PLAN, "_REQUEST")


def test_qps_is_all_requests_by_all_the_time() -> None:
    stats = {
        "num_requests": 200,
        "num_failures": 3,
        "start_time": 1000.0,
        "last_request_timestamp": 1010.0,
        "response_times": {"5": 150, "20": 48, "900": 2},
    }
    load = read(stats)
    assert (load.requests, load.failures) == (200, 3)
    assert load.qps == pytest.approx(20.0)
    assert load.latencies == {0.5: 5.0, 0.95: 20.0, 0.99: 20.0, 1.0: 900.0}
