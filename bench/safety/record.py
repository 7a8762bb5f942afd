"""What real trials found, a JSON line each, so that a run can be continued and judged anew without training again."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.safety.condition import CONDITIONS, Trial
from bench.safety.quality import Difference, Quality, base_of, candidate_of, difference_of, without_taste
from core.domain.evaluation import EvaluationReport, Gates, Verdict, judge
from core.domain.policy import UpdatePolicy


@dataclass(frozen=True, slots=True)
class Record:
    """One trial: the report of the evaluation, and `facts` of the training and the truth (see `trial.py`)."""

    trial: Trial
    report: EvaluationReport
    facts: dict[str, Any]

    @property
    def condition(self) -> str:
        return self.trial[0]

    @property
    def taste(self) -> str:
        return self.trial[1]

    @property
    def base(self) -> Quality:
        """To users who have the taste."""
        return base_of(self.facts["truth"]["joint"])

    @property
    def candidate(self) -> Quality:
        """To users who have the taste."""
        return candidate_of(self.facts["truth"]["joint"])

    @property
    def difference(self) -> Difference:
        """Candidate against base, to the users of the condition."""
        joint = self.facts["truth"]["joint"]
        return difference_of(joint if CONDITIONS[self.condition].has_taste else without_taste(joint))

    def judge(self, policy: UpdatePolicy, gates: Gates | None = None) -> Verdict:
        """What the gates say of it, as of today."""
        return judge(
            self.report,
            gates or policy.gates,
            approval_below=policy.approval_below,
            canary_share=policy.rollout.canary_share,
        )


def load(path: Path) -> list[Record]:
    """All records of a file, or none where there is no file yet."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [_read(json.loads(line)) for line in lines]


def append(path: Path, record: Record, verdict: Verdict) -> None:
    """Add a line; the verdict is for readers, and is made anew where it matters."""
    condition, taste, seed = record.trial
    line = {
        "condition": condition,
        "taste": taste,
        "seed": seed,
        "report": record.report.model_dump(mode="json"),
        "verdict": {"decision": verdict.decision, "reasons": verdict.reasons},
        **record.facts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def done(records: Iterable[Record]) -> set[Trial]:
    """The trials that need not be run again."""
    return {record.trial for record in records}


def _read(line: dict[str, Any]) -> Record:
    trial = line.pop("condition"), line.pop("taste"), line.pop("seed")
    report = EvaluationReport.model_validate(line.pop("report"))
    line.pop("verdict")
    return Record(trial, report, line)
