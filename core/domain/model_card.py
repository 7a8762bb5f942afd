"""The model card of a learned adapter, as Markdown: what it was made from, what was measured, what it cannot do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core.domain.evaluation import Comparison, EvaluationReport, Interval, Verdict
from core.domain.model_update import Split
from core.domain.preference import PreferenceKind, PreferenceManifest, PreferencePlan, PreferenceReport

_BUCKETS = ((1, 1), (2, 5), (6, 10), (11, 20), (21, None))
_KINDS = {
    PreferenceKind.PAIR: "choices between two pictures",
    PreferenceKind.LIKED: "liked pictures",
    PreferenceKind.DISLIKED: "disliked pictures",
}
_VERDICTS = {
    "promote": "It serves as champion.",
    "canary": "It is tried on a share of live requests before it serves.",
    "reject": "It does not serve.",
    "needs_approval": "A person has to approve it before it serves.",
}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Everything that a card tells. `opinions_by_user` are counts without names; empty where they are not known."""

    plan: PreferencePlan
    manifest: PreferenceManifest
    training: PreferenceReport
    report: EvaluationReport
    verdict: Verdict
    opinions_by_user: Sequence[int] = ()


def model_card(facts: CardFacts) -> str:
    """The same facts are the same text. It holds no prompt, no picture and no user's name."""
    plan = facts.plan
    header = ["---", "library_name: diffusers", "tags:", "- lora", "- text-to-image", "- preference", "---"]
    title = [
        f"# {plan.name}, version {plan.adapter_version}",
        "",
        f"A LoRA for {plan.base_model}, trained on what users of it like. {_VERDICTS[facts.verdict.decision]}",
    ]
    if plan.description:
        title += ["", _plain(plan.description)]
    parts = [
        header,
        title,
        _data(facts),
        _recipe(facts),
        _figures(facts.report),
        _verdict(facts.verdict),
        _limits(facts),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _data(facts: CardFacts) -> list[str]:
    rows = facts.manifest.rows
    lines = [
        "## What it learned from",
        "",
        f"{len(rows)} opinions of {facts.report.raters} users. Their frozen list: `{facts.manifest.digest}`.",
        "",
        *_table(
            ("opinions", "trained on", "held out"),
            [(words, *(_count(facts, kind, split) for split in Split)) for kind, words in _KINDS.items()],
        ),
    ]
    if facts.opinions_by_user:
        lines += ["", *_table(("opinions of one user", "users"), _buckets(facts.opinions_by_user))]
    return lines


def _count(facts: CardFacts, kind: PreferenceKind, split: Split) -> int:
    return sum(row.kind is kind for row in facts.manifest.of(split))


def _buckets(counts: Sequence[int]) -> list[tuple[str, int]]:
    found = []
    for low, high in _BUCKETS:
        name = f"{low} and more" if high is None else str(low) if low == high else f"{low} to {high}"
        found.append((name, sum(low <= count and (high is None or count <= high) for count in counts)))
    return found


def _recipe(facts: CardFacts) -> list[str]:
    plan, training = facts.plan, facts.training
    steps = f"{training.steps} steps, of which step {training.best_step} is kept"
    rows = [
        ("base model", plan.base_model),
        ("rank, alpha", f"{plan.spec.rank}, {plan.alpha:g}"),
        ("modules", _plain(", ".join(plan.spec.target_modules))),
        ("steps", f"{steps}: {_plain(training.stop_reason)}" if training.stop_reason else steps),
        ("learning rate", f"{plan.spec.learning_rate:g}"),
        ("beta", f"{training.final_beta:g}"),
        ("seed", str(plan.seed)),
        ("resolution", f"{plan.resolution} pixels"),
    ]
    return ["## How it was trained", "", *_table(("", ""), rows)]


def _figures(report: EvaluationReport) -> list[str]:
    beside = f"`{report.champion}`" if report.champion else "the bare base model"
    theirs = _interval(report.champion_accuracy) if report.champion else "has no opinion"
    rows = [
        ("accuracy on held-out opinions", _interval(report.accuracy), theirs),
        ("fidelity to unrelated prompts", *_both(report.fidelity)),
        ("diversity of pictures of one prompt", *_both(report.diversity)),
        ("distance from the champion's unrelated pictures", _figure(report.drift), ""),
    ]
    judged = [
        (each.scorer, each.measures, _interval(each.win_share), _interval(each.agreement)) for each in report.scorers
    ]
    lines = ["## What was measured", "", f"Beside {beside}, same prompts, same seeds.", ""]
    lines += _table(("figure", "this adapter", "beside it"), rows)
    if judged:
        lines += ["", *_table(("scorer", "measures", "wins", "agrees with held-out opinions"), judged)]
    return lines + [line for note in report.notes for line in ("", f"Note: {_plain(note)}")]


def _verdict(verdict: Verdict) -> list[str]:
    said = {True: "passed", False: "failed", None: "not decided"}
    rows = [(gate.gate.replace("_", " "), said[gate.passed], _plain(gate.sentence)) for gate in verdict.gates]
    words = verdict.decision.replace("_", " ")
    return ["## The gates", "", f"Verdict: **{words}**.", "", *_table(("gate", "", "why"), rows)]


def _limits(facts: CardFacts) -> list[str]:
    base = facts.plan.base_model
    return [
        "## Limits",
        "",
        f"- It fits {base} and models of the same shape; what it does to others was not measured.",
        "- It says what the users it learned from like. Others may like something else.",
        "- Figures come from few pictures; their intervals say how few.",
        f"- Whatever {base} must not be used for, this must not be used for either.",
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in cells]


def _interval(found: Interval | None) -> str:
    return "not measured" if found is None else f"{found.value:.2f} ({found.lower:.2f} to {found.upper:.2f})"


def _both(found: Comparison | None) -> tuple[str, str]:
    return ("not measured", "") if found is None else (_figure(found.candidate), _figure(found.champion))


def _figure(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _plain(text: str) -> str:
    """One line of text that Markdown and HTML leave as it is."""
    safe = " ".join(text.split())
    for mark in "\\`*_[]<>":
        safe = safe.replace(mark, f"\\{mark}")
    return safe
