import base64
import io
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image

from api.view.chart import line_chart
from api.view.report_page import ReportPage, render
from core.domain.evaluation import (
    Comparison,
    Decision,
    EvaluationReport,
    GateResult,
    Gates,
    Measure,
    ScorerResult,
    Verdict,
    judge,
    wilson,
)

_VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Notes what a browser would fetch or run, the text, and whether tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        self.fetched += [value or "" for name, value in attrs if name in {"src", "href", "action", "xlink:href"}]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


def read(page: ReportPage) -> Reader:
    reader = Reader()
    reader.feed(render(page))
    reader.close()
    assert reader.open == []
    return reader


def sheet() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()


def full_page(**changes: Any) -> ReportPage:
    report = EvaluationReport(
        champion="warmth@3",
        held_out_rows=40,
        training_rows=240,
        raters=12,
        accuracy=wilson(34, 40),
        champion_accuracy=wilson(30, 40),
        scorers=(
            ScorerResult(
                scorer="taste_probe",
                measures=Measure.PREFERENCE,
                candidate=1.25,
                champion=0.5,
                win_share=wilson(20, 24),
                agreement=wilson(36, 40),
            ),
        ),
        fidelity=Comparison(candidate=0.97, champion=0.98),
        drift=0.125,
        diversity=None,
        serves=True,
        notes=("Two pictures are gone.",),
    )
    given: dict[str, Any] = {
        "title": "warmth@4",
        "model": "tiny",
        "status": "awaiting_approval",
        "facts": (("manifest", "abc"),),
        "outcome_reason": "A person has to say.",
        "report": report,
        "verdict": judge(report, Gates(), approval_below=0, canary_share=0.1),
        "losses": [(step, 0.7 - step / 1000) for step in range(1, 101)],
        "looks": [(25, 0.7), (50, 0.85), (75, 0.8)],
        "sheet_png": sheet(),
    }
    return ReportPage(**(given | changes))


def test_everything_is_on_the_page() -> None:
    reader = read(full_page())
    text = " ".join(reader.text)
    for said in (
        "warmth@4",
        "tiny · awaiting approval",
        "Needs approval",
        "Diversity of pictures of one prompt could not be measured: not decided.",
        "A person has to say.",
        "0.85 (0.71 to 0.93, of 40)",
        "0.970",
        "taste_probe",
        "0.90 (0.77 to 0.96, of 40)",
        "Two pictures are gone.",
        "Accuracy on held-out opinions",
        "manifest",
    ):
        assert said in text
    assert reader.tags.count("svg") == 2 and reader.tags.count("polyline") == 2
    assert reader.tags.count("circle") == 3


def test_the_page_needs_no_network_and_runs_nothing() -> None:
    reader = read(full_page())
    (source,) = reader.fetched
    head, encoded = source.split(",", 1)
    assert head == "data:image/png;base64"
    assert base64.b64decode(encoded) == sheet()
    assert {"script", "link", "iframe", "object", "form"}.isdisjoint(reader.tags)
    assert "http://" not in render(full_page()) and "https://" not in render(full_page())
    assert "url(" not in render(full_page()) and "@import" not in render(full_page())


def test_a_page_of_an_update_that_has_only_begun_says_what_is_missing() -> None:
    text = " ".join(read(ReportPage(title="warmth@4", model="tiny", status="planned")).text)
    assert "No verdict yet" in text and "No pictures were kept." in text and "nothing was recorded" in text


def test_whatever_somebody_said_is_text() -> None:
    evil = '<script>alert("1")</script>" onload="x'
    report = full_page().report
    assert report is not None
    page = full_page(
        title=evil,
        model=evil,
        status=evil,
        outcome_reason=evil,
        facts=((evil, evil),),
        report=report.model_copy(update={"champion": evil, "notes": (evil,)}),
        verdict=Verdict(
            decision=Decision.REJECT,
            reasons=(evil,),
            gates=(GateResult(gate=evil, passed=False, sentence=evil),),
        ),
    )
    reader = read(page)
    assert "script" not in reader.tags
    assert " ".join(reader.text).count('<script>alert("1")</script>') >= 9


def test_a_long_run_is_a_light_chart() -> None:
    chart = line_chart([(step, 1.0) for step in range(100_000)], title="Loss")
    assert len(chart) < 20_000


@pytest.mark.parametrize("points", [[(5, 0.5)], [(5, 0.5), (5, 0.7)], [(1, 0.0), (2, 0.0)]])
def test_a_chart_of_little_is_still_a_chart(points: list[tuple[int, float]]) -> None:
    chart = line_chart(points, title="Loss")
    assert "polyline" in chart and "nan" not in chart and "inf" not in chart
