"""One round of hostile requests: some schemathesis side by side, each with a seed of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chaos.plant import Plant
from cli.environment import ROOT

SIDE_BY_SIDE = 4
"""Each waits two thirds of its time for answers. Threads of one would wait for each other, and Python 3.11 parses
nothing safely in two at once."""

_CHECKS = "not_a_server_error,content_type_conformance,ignored_auth,shows_no_stack"
_PHASES = ("coverage", "fuzzing", "stateful")
_TAIL_LINES = 60


def ask(plant: Plant, configuration: Path, *, seconds: int, seeds: Sequence[int]) -> list[str]:
    """Ask for so many seconds; what there is to complain of."""
    processes = [_start(plant, configuration, seconds=seconds, seed=seed) for seed in seeds]
    try:
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            process.kill()
    return [
        complaint
        for seed, process in zip(seeds, processes, strict=True)
        for complaint in _complain(plant, seed, process.returncode)
    ]


def _start(plant: Plant, configuration: Path, *, seconds: int, seed: int) -> "subprocess.Popen[bytes]":
    begin = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration), "run"]
    what = [f"{plant.apis[0]}/openapi.json", "--header", f"Authorization: Bearer {plant.key}"]
    how = ["--checks", _CHECKS, "--phases", ",".join(_PHASES), "--continue-on-failure", "--no-shrink"]
    limits = ["--max-time", str(seconds), "--seed", str(seed), "--request-timeout", "30", "--workers", "1"]
    quiet = ["--warnings", "off", "--no-color", "--generation-database", "none", "--suppress-health-check", "all"]
    report = ["--report", "json", "--report-json-path", str(_report(plant, seed))]
    with _output(plant, seed).open("wb") as output:
        return subprocess.Popen(
            [*begin, *what, *how, *limits, *quiet, *report],
            env=plant.environment | {"SCHEMATHESIS_HOOKS": "chaos.fuzz_check"},
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _complain(plant: Plant, seed: int, code: int) -> Iterator[str]:
    if code != 0:
        yield "\n".join(_output(plant, seed).read_text(errors="replace").splitlines()[-_TAIL_LINES:])
    else:
        yield from skipped(json.loads(_report(plant, seed).read_text()))


def skipped(report: dict[str, Any]) -> Iterator[str]:
    """Each phase of which schemathesis says that nothing came of it: it was left out, or asked nothing."""
    for name in _PHASES:
        phase = report["phases"][name]
        if phase["status"] == "skip":
            yield f"The phase {name} of --seed {report['seed']} asked nothing: {phase['skip_reason']}."


def _output(plant: Plant, seed: int) -> Path:
    return plant.data / f"schemathesis-{seed}.txt"


def _report(plant: Plant, seed: int) -> Path:
    return plant.data / f"schemathesis-{seed}.json"
