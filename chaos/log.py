"""What our programs logged, over all their lives: what a killed process counted is gone, what it logged is not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def said(folder: Path, *, by: str = "*") -> Iterator[dict[str, Any]]:
    """Each event that programs of these names logged; lines that a death cut short are left out."""
    for path in sorted(folder.glob(f"{by}.log")):
        with path.open(errors="replace") as file:
            for line in file:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if isinstance(event, dict):
                    yield event
