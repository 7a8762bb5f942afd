"""The report of a model update as one HTML page that needs no network: verdict, gates, figures, curves, pictures."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from api.view.chart import Point, line_chart
from core.domain.evaluation import Comparison, EvaluationReport, GateResult, Interval, Verdict

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What the page may load: nothing that it does not hold."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #68707a; --paper: #fbfbf9; --card: #fff; --edge: #dfe2e6;
  --good: #1a7f4b; --bad: #b3261e; --open: #9a6700; --line: #2f6fd0 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa2ac; --paper: #16181b; --card: #1f2226;
  --edge: #363b42; --good: #5fce95; --bad: #ff8a80; --open: #e5b95c; --line: #7fb0ff } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1040px; padding: 24px 20px 48px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.05rem; margin: 32px 0 10px }
p { margin: 6px 0 } .soft, .missing, figcaption, svg text { color: var(--soft); fill: var(--soft) }
.verdict { background: var(--card); border: 1px solid var(--edge); border-left: 5px solid var(--open);
  border-radius: 6px; margin: 18px 0; padding: 14px 18px }
.verdict strong { font-size: 1.15rem } .verdict ul { margin: 8px 0 0; padding-left: 20px }
.promote, .canary { border-left-color: var(--good) } .reject { border-left-color: var(--bad) }
.scroll { overflow-x: auto } table { background: var(--card); border: 1px solid var(--edge); border-collapse: collapse;
  border-radius: 6px; width: 100% }
th, td { border-top: 1px solid var(--edge); padding: 7px 12px; text-align: left; vertical-align: top }
thead th { border-top: 0; color: var(--soft); font-weight: 500 } td.number { font-variant-numeric: tabular-nums }
.passed { color: var(--good) } .failed { color: var(--bad) } .open { color: var(--open) }
.curves { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)) }
figure { background: var(--card); border: 1px solid var(--edge); border-radius: 6px; margin: 0; padding: 12px }
svg { display: block; width: 100% } svg text { font-size: 11px } .grid { stroke: var(--edge) }
.line { fill: none; stroke: var(--line); stroke-linejoin: round; stroke-width: 2 } .mark { fill: var(--line) }
img { display: block; height: auto; image-rendering: pixelated; max-width: 100% } figcaption { margin-top: 8px }
"""
_OUTCOMES = {True: ("passed", "passed"), False: ("failed", "failed"), None: ("open", "not decided")}
"""Of a gate: the style and the word."""


@dataclass(frozen=True, slots=True)
class ReportPage:
    """What the page tells. `facts` are names and values; what is not there yet is said to be missing.

    `losses` are of training steps, `looks` the accuracy on held-out opinions at steps; `sheet_png` is the contact
    sheet, the champion left and the candidate right.
    """

    title: str
    model: str
    status: str
    facts: Sequence[tuple[str, str]] = ()
    outcome_reason: str | None = None
    report: EvaluationReport | None = None
    verdict: Verdict | None = None
    losses: Sequence[Point] = ()
    looks: Sequence[Point] = ()
    sheet_png: bytes | None = None


def render(page: ReportPage) -> str:
    """The whole page. Whatever was said by somebody is escaped."""
    title = escape(page.title)
    body = [
        f"<header><h1>{title}</h1><p class=soft>{escape(page.model)} · {escape(_words(page.status))}</p></header>",
        _verdict(page),
        *(_gates(page.verdict.gates) if page.verdict else ()),
        *(_figures(page.report) if page.report else ()),
        "<h2>Training</h2>",
        f"<div class=curves>{line_chart(page.losses, title='Loss of each step')}"
        + line_chart(page.looks, title="Accuracy on held-out opinions", bounds=(0.0, 1.0))
        + "</div>",
        *_pictures(page.sheet_png),
        *_facts(page.facts),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _verdict(page: ReportPage) -> str:
    reason = f"<p>{escape(page.outcome_reason)}</p>" if page.outcome_reason else ""
    if page.verdict is None:
        return f"<section class=verdict><strong>No verdict yet</strong>{reason}</section>"
    decision = page.verdict.decision
    reasons = "".join(f"<li>{escape(each)}</li>" for each in page.verdict.reasons)
    return (
        f'<section class="verdict {decision}"><strong>{escape(_words(decision).capitalize())}</strong>'
        f"<ul>{reasons}</ul>{reason}</section>"
    )


def _gates(gates: Sequence[GateResult]) -> list[str]:
    rows = []
    for gate in gates:
        kind, word = _OUTCOMES[gate.passed]
        rows.append(
            f"<td>{escape(_words(gate.gate).capitalize())}</td><td class={kind}>{word}</td>"
            f"<td>{escape(gate.sentence)}</td>"
        )
    return ["<h2>Gates</h2>", _table(("Gate", "", "Why"), rows)]


def _figures(report: EvaluationReport) -> list[str]:
    theirs = _interval(report.champion_accuracy) if report.champion else "has no opinion"
    figures = [
        ("Accuracy on held-out opinions", _interval(report.accuracy), theirs),
        ("Fidelity to unrelated prompts", *_both(report.fidelity)),
        ("Diversity of pictures of one prompt", *_both(report.diversity)),
        ("Distance from the other side's unrelated pictures", _figure(report.drift), ""),
    ]
    beside = report.champion or "the bare base"
    counts = f"{report.training_rows} opinions trained on, {report.held_out_rows} held out, {report.raters} users"
    parts = [
        "<h2>Figures</h2>",
        f"<p class=soft>Beside {escape(beside)}; {counts}.</p>",
        _table(("", "Candidate", beside), map(_cells, figures)),
    ]
    if report.scorers:
        rows = [
            (
                each.scorer,
                each.measures,
                f"{each.candidate:.3f}",
                f"{each.champion:.3f}",
                _interval(each.win_share),
                _interval(each.agreement) if each.agreement else "",
            )
            for each in report.scorers
        ]
        head = ("Scorer", "Measures", "Candidate", beside, "Wins", "Agrees with held-out opinions")
        parts += ["<h2>Scorers</h2>", _table(head, map(_cells, rows))]
    if report.notes:
        parts.append("<ul class=soft>" + "".join(f"<li>{escape(note)}</li>" for note in report.notes) + "</ul>")
    return parts


def _pictures(sheet_png: bytes | None) -> list[str]:
    if sheet_png is None:
        return ["<h2>Pictures</h2>", "<p class=missing>No pictures were kept.</p>"]
    encoded = base64.b64encode(sheet_png).decode()
    caption = "Left: what serves now. Right: the candidate. The same prompt and seed."
    image = f'<img alt="{caption}" src="data:image/png;base64,{encoded}">'
    return ["<h2>Pictures</h2>", f"<figure>{image}<figcaption>{caption}</figcaption></figure>"]


def _facts(facts: Sequence[tuple[str, str]]) -> list[str]:
    return ["<h2>About this update</h2>", _table((), map(_cells, facts))] if facts else []


def _table(head: Sequence[str], rows: Iterable[str]) -> str:
    names = "".join(f"<th>{escape(word)}</th>" for word in head)
    top = f"<thead><tr>{names}</tr></thead>" if head else ""
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<div class=scroll><table>{top}<tbody>{body}</tbody></table></div>"


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td class=number>{escape(str(cell))}</td>" for cell in row)


def _interval(found: Interval | None) -> str:
    if found is None:
        return "not measured"
    return f"{found.value:.2f} ({found.lower:.2f} to {found.upper:.2f}, of {found.count})"


def _both(found: Comparison | None) -> tuple[str, str]:
    return ("not measured", "") if found is None else (_figure(found.candidate), _figure(found.champion))


def _figure(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _words(name: str) -> str:
    return name.replace("_", " ")
