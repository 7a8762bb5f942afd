"""What was found, as figures for JSON, as Markdown for docs/learning, and as charts."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.safety.alarm import AlarmRow
from bench.safety.chart import Chart, Line, save
from bench.safety.condition import CONDITIONS
from bench.safety.harm import OPINIONS, HarmRow
from bench.safety.record import Record
from bench.safety.world import Step
from core.domain.evaluation import wilson
from core.domain.policy import UpdatePolicy

FALSE_TARGET, ALARM_TARGET, HARM_TARGET = 0.01, 0.05, 0.95


def page(
    records: Sequence[Record],
    steps: Sequence[Step],
    strict: Sequence[Step],
    alarms: Sequence[AlarmRow],
    harms: Sequence[HarmRow],
    *,
    policy: UpdatePolicy,
) -> str:
    """Everything as Markdown."""
    parts = [
        "# What the loop lets through\n",
        "Written by `python -m bench.loop_safety`; `bench/safety/quality.py` says what is truly better or worse.\n",
        f"## {len(records)} real trainings, judged against the bare base\n",
        *_trials(records, policy),
        f"\n## {_judged(steps)} simulated verdicts\n",
        f"{_summary(steps)} Where a person is asked he says yes, always. If he always says no: {_summary(strict)}\n",
        *_updates(steps),
        "\n## Neither arm is better, and somebody looks after every opinion\n",
        *_alarms(alarms),
        "\n![False alarms](alarms.svg)\n",
        f"## A bad champion is forced in: rolled back within {OPINIONS} live opinions\n",
        *_harms(harms),
        "\n![Bad champions rolled back, by choices](choices.svg)\n",
        "![Bad champions rolled back, by thumbs](thumbs.svg)",
    ]
    return "\n".join(parts) + "\n"


def trial_figures(records: Sequence[Record], policy: UpdatePolicy) -> list[dict[str, Any]]:
    """One row a condition."""
    return [_trial_row([each for each in records if each.condition == name], policy) for name in _tried(records)]


def _tried(records: Sequence[Record]) -> list[str]:
    return [name for name in CONDITIONS if any(each.condition == name for each in records)]


def _trial_row(records: Sequence[Record], policy: UpdatePolicy) -> dict[str, Any]:
    truths = Counter(each.difference.says for each in records)
    passed = [each for each in records if each.judge(policy).decision != "reject"]
    return {
        "condition": records[0].condition,
        "trainings": len(records),
        "truth": {says: truths[says] for says in ("better", "same", "worse")},
        "decisions": dict(Counter(str(each.judge(policy).decision) for each in records)),
        "worse_and_not_rejected": sum(each.difference.says == "worse" for each in passed),
        "utility_difference": [round(each.difference.mean, 3) for each in records],
    }


def _trials(records: Sequence[Record], policy: UpdatePolicy) -> list[str]:
    head = "feedback|trainings|truly better|same|worse|rejected|canary|a person is asked|worse let on"
    rows = []
    for row in trial_figures(records, policy):
        truth, said = row["truth"], Counter(row["decisions"])
        verdicts = said["reject"], said["canary"], said["needs_approval"]
        rows.append([row["condition"], row["trainings"], *truth.values(), *verdicts, row["worse_and_not_rejected"]])
    return _table(head, rows)


def update_figures(steps: Sequence[Step]) -> dict[str, Any]:
    """Counts over all verdicts, and by condition and kind of tenant."""
    groups = {(step.condition, step.tenant): [each for each in steps if _key(each) == _key(step)] for step in steps}
    return {
        **_counts(steps),
        "by_condition": [
            {"condition": condition, "tenant": tenant, **_counts(part)} for (condition, tenant), part in groups.items()
        ],
    }


def _key(step: Step) -> tuple[str, str]:
    return step.condition, step.tenant


def _judged(steps: Sequence[Step]) -> int:
    return sum(bool(step.truth) for step in steps)


def _counts(steps: Sequence[Step]) -> dict[str, Any]:
    false, judged = sum(step.is_false for step in steps), _judged(steps)
    interval = wilson(false, judged) if judged else None
    return {
        "verdicts": judged,
        "never_started": sum(not step.truth for step in steps),
        "truly_better": sum(step.truth == "better" for step in steps),
        "truly_worse": sum(step.truth == "worse" for step in steps),
        "rejected": sum(step.decision == "reject" for step in steps),
        "asked": sum(step.decision == "needs_approval" for step in steps),
        "tried_live": sum(bool(step.live) for step in steps),
        "ended_live_by_clock": sum(step.live.endswith("clock") for step in steps),
        "promoted": sum(step.is_promoted for step in steps),
        "promoted_better": sum(step.is_promoted and step.truth == "better" for step in steps),
        "promoted_worse": false,
        "promoted_worse_and_taken_back": sum(step.is_false and step.is_taken_back for step in steps),
        "false_share": round(interval.value, 5) if interval else None,
        "false_share_95": [round(interval.lower, 5), round(interval.upper, 5)] if interval else None,
    }


def _summary(steps: Sequence[Step]) -> str:
    counts = _counts(steps)
    lower, upper = counts["false_share_95"] or (0.0, 1.0)
    return (
        f"Promoted though truly worse: {counts['promoted_worse']} of {_judged(steps)} verdicts, "
        f"{counts['false_share'] or 0:.2%} ({lower:.2%} to {upper:.2%}; target ≤ {FALSE_TARGET:.0%}), "
        f"of {counts['truly_worse']} that were worse; promoted and truly better: {counts['promoted_better']} "
        f"of {counts['truly_better']}."
    )


def _updates(steps: Sequence[Step]) -> list[str]:
    head = "feedback|tenant|never started|verdicts|better|worse|rejected|asked|live|promoted|better|worse|taken back"
    names = (
        "never_started",
        "verdicts",
        "truly_better",
        "truly_worse",
        "rejected",
        "asked",
        "tried_live",
        "promoted",
        "promoted_better",
        "promoted_worse",
        "promoted_worse_and_taken_back",
    )
    rows = update_figures(steps)["by_condition"]
    return _table(head, [[row["condition"], row["tenant"], *(row[name] for name in names)] for row in rows])


def alarm_figures(row: AlarmRow) -> dict[str, Any]:
    """Shares of streams with an alarm."""
    return {
        "streams": row.streams,
        "looks": row.looks,
        "name": row.name,
        "promotes": len(row.better) / row.streams,
        "aborts": len(row.worse) / row.streams,
    }


def _alarms(alarms: Sequence[AlarmRow]) -> list[str]:
    head = f"opinions|streams|looks|wrong promotion|wrong abort|each ≤ {ALARM_TARGET:.0%}"
    rows = []
    for row in alarms:
        high, low = len(row.better) / row.streams, len(row.worse) / row.streams
        met = _met(max(high, low) <= ALARM_TARGET)
        rows.append([row.name, row.streams, row.looks, f"{high:.2%}", f"{low:.2%}", met])
    return _table(head, rows)


def harm_figures(row: HarmRow) -> dict[str, Any]:
    """Share rolled back, and after how many opinions."""
    return {
        "name": row.name,
        "rate": row.size,
        "runs": row.runs,
        "rolled_back": row.rolled_back / row.runs,
        "median_opinions": row.median,
    }


def _harms(harms: Sequence[HarmRow]) -> list[str]:
    head = f"how people say so|rate|runs|rolled back|median opinions|≥ {HARM_TARGET:.0%}"
    rows = []
    for row in harms:
        share = row.rolled_back / row.runs
        median = "" if row.median is None else f"{row.median:.0f}"
        rows.append([row.name, f"{row.size:.2f}", row.runs, f"{share:.1%}", median, _met(share >= HARM_TARGET)])
    return _table(head, rows)


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"


def _table(head: str, rows: Iterable[Sequence[object]]) -> list[str]:
    """Markdown; `head` names the columns, with bars between them."""
    names = head.split("|")
    lines = [names, ["---", *["--:"] * (len(names) - 1)], *([str(cell) for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def save_charts(alarms: Sequence[AlarmRow], harms: Sequence[HarmRow], folder: Path) -> None:
    """Shares over time: of false alarms, and of bad champions rolled back."""
    rising = [Line(row.name, _rising(sorted([*row.better, *row.worse]), row.streams, row.looks)) for row in alarms[:6]]
    save(
        Chart("False alarms, either way", "comparisons", "share", rising, 0.2, 2 * ALARM_TARGET), folder / "alarms.svg"
    )
    for name, word in (("choices", "choices"), ("thumbs", "with a record")):
        part = [row for row in harms if word in row.name]
        lines = [Line(f"rate {row.size:.2f}", _rising(row.opinions, row.runs, OPINIONS)) for row in part]
        if lines:
            title = f"Bad champions rolled back, by {name}"
            save(Chart(title, "live opinions", "share", lines, 1.0, HARM_TARGET), folder / f"{name}.svg")


def _rising(times: Sequence[int], total: int, end: int) -> list[tuple[float, float]]:
    """The share that has happened by each of 50 moments."""
    moments = [end * step / 50 for step in range(51)]
    return [(moment, sum(time <= moment for time in times) / total) for moment in moments]
