import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.bars import draw
from bench.claim import Claim, write
from bench.page import PATH, PLOTS, figures, machines, plots, text

SVG = "{http://www.w3.org/2000/svg}"


def test_the_page_shows_the_results_as_they_are() -> None:
    assert PATH.read_text() == text(), "run `python -m bench.page`"


def test_its_plots_are_drawn_from_the_results() -> None:
    drawn = {f"{name}.svg": draw(bars) for name, bars in plots()}
    assert drawn == {path.name: path.read_text() for path in PLOTS.iterdir()}, "run `python -m bench.page`"
    for picture in drawn.values():
        widths = [float(bar.attrib["width"]) for bar in ElementTree.fromstring(picture).iter(f"{SVG}rect")][1:]
        assert widths and 0 < min(widths) <= max(widths) == pytest.approx(380, abs=0.1)


def test_a_row_without_a_result_says_so(tmp_path: Path) -> None:
    lines = [line for line in figures(tmp_path).splitlines() if line.startswith("|")][2:]
    assert {line.split("|")[1].strip() for line in lines} >= {str(row) for row in range(1, 11)}
    assert all("not recorded yet" in line for line in lines)


def test_a_claim_shows_what_it_is_beside_others_and_whether_it_holds(tmp_path: Path) -> None:
    claims = [
        Claim(2, "speed", 0.9, 0.95, peers={"peft": 0.5}, by_cpu=0.91, note="bound 0.99"),
        Claim(5, "wait", 0.5, 0.6, at_most=True),
    ]
    for name in ("mixed_lora_tiny", "latency_tiny"):
        write(name, claims, command="", figures={}, setting={"model": "tiny", "device": "cpu"}, to=tmp_path)
    table = figures(tmp_path)
    assert "| 2 | speed | tiny, CPU | 0.90 (0.91 by CPU time); bound 0.99 | peft 0.50 | ≥ 0.95 | **no** |" in table
    assert "| 5 | wait | tiny, CPU | 0.50 |  | ≤ 0.6 | yes |" in table
    assert json.loads((tmp_path / "latency_tiny.json").read_text())["measured_at"] in machines(tmp_path)
