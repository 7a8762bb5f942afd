"""Records as real trials leave them, without training."""

from bench.safety.record import Record
from core.domain.evaluation import Comparison, EvaluationReport, Measure, ScorerResult, wilson

BETTER = [[1, 0, 0], [0, 20, 40], [0, 1, 66]]
WORSE = [[1, 0, 0], [30, 40, 0], [30, 0, 27]]
SAME = [[1, 0, 0], [0, 58, 2], [0, 2, 65]]


def make_record(
    joint: list[list[int]], *, condition: str = "clean, 256", taste: str = "warm", seed: int = 0, right: int = 37
) -> Record:
    """Of 39 held-out opinions so many are told right; pictures are counted by `joint` (see quality.py)."""
    wins = 22.0 if right > 30 else 12.0
    report = EvaluationReport(
        champion=None,
        held_out_rows=39,
        training_rows=210,
        raters=30,
        accuracy=wilson(right, 39),
        champion_accuracy=None,
        scorers=(
            ScorerResult(
                scorer="taste_probe",
                measures=Measure.PREFERENCE,
                candidate=0.8,
                champion=0.1,
                win_share=wilson(wins, 24),
                agreement=wilson(right, 39),
            ),
        ),
        fidelity=Comparison(candidate=1.0, champion=1.0),
        drift=0.1,
        diversity=Comparison(candidate=0.2, champion=0.2),
        serves=True,
    )
    facts = {"truth": {"joint": joint, "taste": [0.4, 0.9], "full": [0.97, 0.97]}}
    return Record((condition, taste, seed), report, facts)
