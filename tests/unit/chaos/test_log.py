"""What was logged: every whole event, whatever else is in the file."""

from pathlib import Path

from chaos.log import has_said, said


def test_what_is_no_event_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "api-0.log").write_bytes(b'{"event": "a"}\nTraceback (most recent call last):\n1\n\xff{"event": "b"}\n')
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
