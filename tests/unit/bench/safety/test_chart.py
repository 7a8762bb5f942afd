from pathlib import Path
from xml.etree import ElementTree

from bench.safety.chart import Chart, Line, draw, save

CHART = Chart("Rising & falling", "opinions", "share", [Line("a < b", [(0, 0.0), (10, 1.0)])], target=0.95)


def test_a_chart_is_xml_with_a_line_for_each_series(tmp_path: Path) -> None:
    save(CHART, tmp_path / "new" / "chart.svg")
    tree = ElementTree.parse(tmp_path / "new" / "chart.svg")
    (line,) = tree.findall(".//{http://www.w3.org/2000/svg}polyline")
    first, last = line.attrib["points"].split()
    assert float(first.split(",")[0]) < float(last.split(",")[0])
    assert float(first.split(",")[1]) > float(last.split(",")[1])  # y grows downwards


def test_words_are_escaped_and_the_target_is_dashed() -> None:
    text = draw(CHART)
    assert "a &lt; b" in text
    assert "Rising &amp; falling" in text
    assert text.count("stroke-dasharray") == 1
