from pathlib import Path

import numpy as np
import pytest

from bench.safety import canary, table
from bench.safety.alarm import AlarmRow
from bench.safety.condition import CONDITIONS
from bench.safety.draw import draw_report
from bench.safety.feed import Feed
from bench.safety.harm import HarmRow
from bench.safety.quality import Quality
from bench.safety.record import Record, append, done, load
from bench.safety.world import Step, compare, simulate
from core.domain.policy import RolloutPolicy, SelectionPolicy, UpdatePolicy
from core.domain.rollout import RolloutKind, RolloutOutcome
from core.domain.selection import Selection, select
from tests.safety_bench import BETTER, SAME, WORSE, make_record

GOOD, BAD = Quality(0.02, 0.2, 0.78), Quality(0.3, 0.5, 0.2)
POLICY = UpdatePolicy()


@pytest.fixture(scope="module")
def selection() -> Selection:
    feed = Feed(np.random.default_rng(3), per_day=150)
    for _ in range(48):
        feed.wait(CONDITIONS["clean, 256"])
    return select(feed.opinions, SelectionPolicy())


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    first, second = make_record(BETTER), make_record(WORSE, condition="no signal", right=20)
    for record in (first, second):
        append(tmp_path / "runs.jsonl", record, record.judge(POLICY))
    assert load(tmp_path / "runs.jsonl") == [first, second]
    assert done(load(tmp_path / "runs.jsonl")) == {first.trial, second.trial}
    assert load(tmp_path / "none.jsonl") == []


def test_where_nobody_shares_a_taste_only_broken_pictures_make_a_difference() -> None:
    assert make_record(BETTER).difference.says == "better"
    assert make_record(BETTER, condition="no signal").difference.says == "same"
    assert make_record(WORSE, condition="no signal").difference.says == "worse"


def test_a_report_is_drawn_with_the_opinions_that_there_are(selection: Selection) -> None:
    record = make_record(BETTER)
    report = draw_report(np.random.default_rng(1), record, None, selection.manifest, raters=selection.raters)
    assert report.champion is None
    assert report.accuracy is not None
    assert report.accuracy.count == report.held_out_rows == selection.held_out
    assert report.accuracy.value == pytest.approx(37 / 39, abs=0.15)
    assert report.drift == pytest.approx(0.1, abs=0.05)
    assert Record(record.trial, report, {}).judge(POLICY).decision == "canary"


def test_against_an_equal_champion_a_candidate_wins_half(selection: Selection) -> None:
    record = make_record(BETTER)
    shares = []
    for seed in range(200):
        report = draw_report(np.random.default_rng(seed), record, record, selection.manifest, raters=9)
        assert report.champion is not None
        shares.append(report.scorers[0].win_share.value)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("challenger", "incumbent", "outcome"),
    [(GOOD, BAD, RolloutOutcome.PROMOTED), (BAD, GOOD, RolloutOutcome.ABORTED)],
)
def test_a_canary_ends_as_the_quality_says(challenger: Quality, incumbent: Quality, outcome: RolloutOutcome) -> None:
    rng = np.random.default_rng(1)
    votes = canary.vote(rng, CONDITIONS["clean, 256"], challenger=challenger, incumbent=incumbent)
    ended = canary.run(votes, RolloutPolicy(), kind=RolloutKind.CANARY, per_day=30)
    assert (ended.ruling.outcome, ended.ruling.actor) == (outcome, "test")
    assert ended.opinions < 200


def test_a_canary_without_opinions_ends_by_the_clock() -> None:
    votes = canary.vote(np.random.default_rng(1), CONDITIONS["no signal"], challenger=BAD, incumbent=BAD)
    ended = canary.run(votes, RolloutPolicy(), kind=RolloutKind.CANARY, per_day=0)
    assert (ended.ruling.outcome, ended.ruling.actor) == (RolloutOutcome.ABORTED, "clock")


def test_quality_is_compared_beyond_a_hair() -> None:
    assert compare(GOOD, BAD) == "better"
    assert compare(BAD, GOOD) == "worse"
    assert compare(Quality(0.0, 0.5, 0.5), Quality(0.0, 0.51, 0.49)) == "same"


def test_good_candidates_are_promoted_and_those_without_signal_are_not() -> None:
    records = [make_record(BETTER), make_record(SAME, condition="no signal", right=20)]
    steps = list(simulate(records, POLICY, tenants=2, seed=3))
    by = {name: [each for each in steps if each.condition == name] for name in ("clean, 256", "no signal")}
    assert sum(each.is_promoted for each in by["clean, 256"]) >= 1
    assert not any(each.is_false for each in steps)
    assert {each.tenant for each in by["no signal"]} == {"steady", "turned"}


def test_the_page_names_every_part() -> None:
    records = [make_record(BETTER), make_record(WORSE, condition="no signal", right=20)]
    promoted = Step("no signal", "turned", "canary", "worse", "promoted", is_promoted=True, is_taken_back=True)
    steps = [Step("no signal", "steady", "never fired"), Step("no signal", "steady", "reject", "worse"), promoted]
    text = table.page(
        records,
        steps,
        steps[:1],
        [AlarmRow("even", 100, 50, [3], [4, 5])],
        [HarmRow("x", 0.3, 4, 3, [9, 10, 11])],
        policy=POLICY,
    )
    assert "Promoted though truly worse: 1 of 2 verdicts, 50.00%" in text
    assert "| even | 100 | 50 | 1.00% | 2.00% | met |" in text
    assert "| x | 0.30 | 4 | 75.0% | 10 | missed |" in text
    assert table.update_figures(steps)["promoted_worse_and_taken_back"] == 1
    assert table.trial_figures(records, POLICY)[1]["worse_and_not_rejected"] == 0


def test_charts_are_written(tmp_path: Path) -> None:
    harms = [HarmRow("side-by-side choices, win rate", 0.3, 4, 3, [9, 10, 11])]
    table.save_charts([AlarmRow("even", 100, 50, [3], [4, 5])], harms, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"alarms.svg", "choices.svg"}
