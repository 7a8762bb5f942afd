"""The table of README.md says what is recorded."""

import json
from typing import Any

from bench.report import RESULTS
from cli.environment import ROOT


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def ratio(name: str) -> str:
    return f"{read(name)['ratio']:.2f}"


def claim(name: str, figure: str) -> float:
    [found] = [each["value"] for each in read(name)["claims"] if each["figure"].startswith(figure)]
    return float(found)


def over_100_loras() -> str:
    """Whatever the order in which they are asked for."""
    values = [claim("mixed_lora_tiny", f"images/s, 24 requests {order}") for order in ("uniform", "zipf")]
    return f"{min(values):.2f}"


def learned() -> str:
    found = read("learning")
    return f"{found['base']['shape']:.2f} → {found['adapter']['shape']:.2f}"


def ways() -> str:
    found = read("taste")["summary"]
    tastes = ("warm", "large", "cool_background")
    return ", ".join(f"{found[f'{taste}, 256 choices, 0% flipped']['way']:.0%}".replace("%", " %") for taste in tastes)


def memory_growth() -> str:
    return f"{100 * claim('adapter_memory', 'growth of resident memory'):.1f} %"


def in_latency(figure: str) -> float:
    return claim("latency_tiny", figure)


def recorded() -> list[str]:
    """The column of figures, from above."""
    safe = read("loop_safety")["updates"]
    assert safe["verdicts"] == 1440
    return [
        ratio("throughput"),
        f"{claim('mixed_lora_mid', 'images/s with another r16 attention'):.2f}",
        over_100_loras(),
        f"{claim('cold_adapter_mid', 'extra ms of a cold LoRA ÷ reading and copying it (r64'):.2f}",
        f"{in_latency('p99 latency'):.2f}",
        f"{in_latency('rows asked for'):.2f}; {in_latency('calls of the UNet'):.0f}",
        memory_growth(),
        ratio("submit"),
        ratio("training"),
        learned(),
        ratio("preference"),
        ways(),
        str(safe["promoted_worse"]),
    ]


def test_the_figures_are_those_that_are_recorded() -> None:
    _, _, table = (ROOT / "README.md").read_text().partition("| what | ratio | command |\n")
    rows = [line.split("|") for line in table.partition("\n\n")[0].splitlines()[1:]]
    assert [row[2].strip() for row in rows] == recorded()
