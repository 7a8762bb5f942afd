"""What a run says, on the terminal and, where it is to be kept, on a page."""

from pathlib import Path

from bench import report as benches
from chaos.old_version import checked_out


class Record:
    """The lines of a run, beginning with how to see it again."""

    def __init__(self, command: str, *, seed: int) -> None:
        self._lines = list[str]()
        self.say(f"`{command} --seed {seed}`, commit {checked_out()}")

    def say(self, line: str) -> None:
        """Add a line."""
        print(line, flush=True)
        self._lines.append(line)

    def keep(self, path: Path | None, *, is_fine: bool) -> None:
        """Say the verdict, and write the page where there is a `path`."""
        machine = benches.machine()
        self.say(f"{'As promised' if is_fine else 'NOT as promised'}, on {machine['cpu']} ({machine['cores']} cores).")
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"- {line}\n" for line in self._lines))
