"""The plan of the load is the same for both tools, and locust's figures are read as they are meant."""

import ast
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import load as load_bench
from bench.load import A_SECOND, LOOPS, USERS, main, read, run
from cli.environment import ROOT

JMX = ROOT / "bench" / "jmeter" / "generate.jmx"
PLAN = ROOT / "bench" / "locust" / "plan.py"


def constant(path: Path, name: str) -> object:
    """A constant of a module that cannot be imported here."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise KeyError(name)


@pytest.fixture
def values() -> dict[str | None, str]:
    """What the plan for JMeter says, by name."""
    return {node.get("name"): node.text or "" for node in ET.parse(JMX).getroot().iter() if node.get("name")}


def test_both_tools_run_the_same_plan(values: dict[str | None, str]) -> None:
    assert values["ThreadGroup.num_threads"] == str(USERS)
    assert values["ThreadGroup.ramp_time"] == str(USERS // A_SECOND)
    assert values["LoopController.loops"] == str(constant(PLAN, "LOOPS")) == str(LOOPS)
    assert (values["HTTPSampler.method"], values["HTTPSampler.path"]) == ("POST", "/api/generate")
    assert ast.literal_eval(values["Argument.value"]) == constant(PLAN, "_REQUEST")
    timeouts = [float(values[f"HTTPSampler.{name}_timeout"]) / 1e3 for name in ("connect", "response")]
    assert tuple(timeouts) == constant(PLAN, "_TIMEOUTS")


def test_jmeter_counts_every_request_once() -> None:
    """It has a summary of its own, and all that have the same name count together."""
    assert list(ET.parse(JMX).getroot().iter("Summariser")) == []


def test_jmeter_is_told_by_properties_whom_to_ask(values: dict[str | None, str]) -> None:
    given = {name: values[f"HTTPSampler.{name}"] for name in ("protocol", "domain", "port")}
    assert given == {
        "protocol": "${__P(protocol,http)}",
        "domain": "${__P(host,127.0.0.1)}",
        "port": "${__P(port,5000)}",
    }
    headers = {
        header.findtext("stringProp[@name='Header.name']"): header.findtext("stringProp[@name='Header.value']")
        for header in ET.parse(JMX).getroot().iter("elementProp")
        if header.get("elementType") == "Header"
    }
    assert headers == {"Authorization": "Bearer ${__P(key)}", "Content-Type": "application/json"}


def test_the_command_for_jmeter_has_a_property_for_all_that_differs_and_leaves_percentiles() -> None:
    head, _, plan = JMX.read_text().partition("<jmeterTestPlan")
    assert set(re.findall(r"-J(\w+)=", head)) == set(re.findall(r"\$\{__P\((\w+)", plan))
    assert all(option in head for option in ("-n -f -t bench/jmeter/generate.jmx ", "-l ", "-e -o "))


STATS = {
    "num_requests": 200,
    "num_failures": 3,
    "start_time": 1000.0,
    "last_request_timestamp": 1010.0,
    "response_times": {"5": 150, "20": 48, "900": 2},
}


def test_qps_is_all_requests_by_all_the_time() -> None:
    load = read(STATS, planned=200)
    assert (load.requests, load.failures) == (200, 3)
    assert load.qps == pytest.approx(20.0)
    assert load.latencies == {0.5: 5.0, 0.95: 20.0, 0.99: 20.0, 1.0: 900.0}
    assert str(load) == "200 requests in 10.0 s: 20.0 QPS, 3 errors\np50 5 ms, p95 20 ms, p99 20 ms, p100 900 ms"


def test_only_a_plan_that_was_accepted_to_its_end_is_met() -> None:
    whole = STATS | {"num_failures": 0}
    assert read(whole, planned=200).is_met
    assert not read(STATS, planned=200).is_met
    cut = read(whole, planned=1000)
    assert not cut.is_met
    assert "800 more were not answered within 300 s." in str(cut)


def test_another_api_needs_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("LORIKEET_API_KEY", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["--url", "http://127.0.0.1:9"])
    assert ended.value.code == 2
    assert "LORIKEET_API_KEY" in capsys.readouterr().err


@pytest.fixture
def told_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What the tool that is started does instead: a line of shell, in which "$out" is the file for figures."""
    tool = tmp_path / ".ci" / "tool"
    tool.parent.mkdir()
    monkeypatch.setattr(load_bench, "ROOT", tmp_path)

    def does(line: str) -> None:
        tool.write_text(
            f'#!/bin/sh\nfor each; do test "$last" = --json-file && out="$each".json; last="$each"; done\n{line}\n'
        )
        tool.chmod(0o755)

    return does


def test_a_tool_that_fails_is_heard(told_to_say: Callable[[str], None], capfd: pytest.CaptureFixture[str]) -> None:
    told_to_say("echo no such plan >&2; exit 3")
    with pytest.raises(SystemExit, match="exit code 3"):
        run("http://127.0.0.1:9", "key", users=1)
    assert "no such plan" in capfd.readouterr().err


def test_an_api_that_answers_nothing_is_named(told_to_say: Callable[[str], None]) -> None:
    told_to_say('echo "[]" > "$out"')
    with pytest.raises(SystemExit, match=r"http://127\.0\.0\.1:9 answered nothing within 300 s"):
        run("http://127.0.0.1:9", "key", users=1)


def test_what_a_cut_run_came_to_is_told(told_to_say: Callable[[str], None]) -> None:
    told_to_say(f"echo '{json.dumps([STATS])}' > \"$out\"")
    assert run("http://127.0.0.1:9", "key", users=100).requests == 200
