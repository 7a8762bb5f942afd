"""What was logged: every whole event, whatever else is in the file."""

from pathlib import Path

from chaos.log import said


def test_what_is_no_event_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "api-0.log").write_bytes(b'{"event": "a"}\nTraceback (most recent call last):\n1\n\xff{"event": "b"}\n')
    (tmp_path / "api-1.log").write_bytes(b'{"event": "c"}\n{"event": "d')
    (tmp_path / "worker-0.log").write_bytes(b'{"event": "e"}\n')
    assert [event["event"] for event in said(tmp_path, by="api-*")] == ["a", "c"]
    assert [event["event"] for event in said(tmp_path)] == ["a", "c", "e"]
