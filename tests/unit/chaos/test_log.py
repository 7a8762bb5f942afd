"""What was logged: every whole event, whatever else is in the file."""

from pathlib import Path

from chaos.log import has_said, said

STACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    1 / 0\nZeroDivisionError: oh\n'


def test_what_is_no_event_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "api-0.log").write_bytes(b'{"event": "a"}\nsome words\n1\n\xff{"event": "b"}\n')
    (tmp_path / "api-1.log").write_bytes(b'{"event": "c"}\n{"event": "d')
    (tmp_path / "worker-0.log").write_bytes(b'{"event": "e"}\n')
    assert [event["event"] for event in said(tmp_path, by="api-*")] == ["a", "c"]
    assert [event["event"] for event in said(tmp_path)] == ["a", "c", "e"]


def test_only_what_was_said_since_counts(tmp_path: Path) -> None:
    log, lost = tmp_path / "worker-0.log", '{"event": "ownership_lost"}\n'
    log.write_text(lost)
    assert has_said(log, "ownership_lost", after=0)
    assert not has_said(log, "ownership_lost", after=len(lost))
    with log.open("a") as file:
        file.write('{"event": "claimed"}\n' + lost + '{"event": "cl')
    assert has_said(log, "ownership_lost", after=len(lost))
    assert not has_said(log, "cl", after=len(lost))


def test_a_stack_that_was_printed_is_a_critical_event(tmp_path: Path) -> None:
    (tmp_path / "api-0.log").write_text(f'{{"event": "a"}}\n{STACK}{{"event": "b"}}\n  + Exception Group {STACK}')
    before, first, after, second = said(tmp_path)
    assert (before["event"], after["event"]) == ("a", "b")
    assert first == {"event": "printed by api-0", "level": "critical", "exception": STACK}
    assert second["level"] == "critical"


def test_a_stack_within_an_event_is_that_event_alone(tmp_path: Path) -> None:
    (tmp_path / "api-0.log").write_text('{"event": "a", "exception": "Traceback (most recent call last):"}\n')
    assert [event["event"] for event in said(tmp_path)] == ["a"]


def test_a_stack_that_was_cut_short_is_one_too(tmp_path: Path) -> None:
    (tmp_path / "api-0.log").write_text(STACK[:40])
    assert [event["level"] for event in said(tmp_path)] == ["critical"]
