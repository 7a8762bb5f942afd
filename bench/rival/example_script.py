"""Runs somebody's training script and prints its optimizer steps per second. Run in an environment that has its needs.

`python -m bench.rival.example_script WARM_STEPS SCRIPT ARGUMENTS…`; the first steps are left out, and so is all that
comes before and after them.
"""

import runpy
import sys
import time
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def main() -> None:
    """Run the script as if it had been called itself."""
    warm, (script, *arguments) = int(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    ends: list[float] = []

    def note(*_: Any) -> None:
        ends.append(time.perf_counter())

    register_optimizer_step_post_hook(note)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
    print((len(ends) - 1 - warm) / (ends[-1] - ends[warm]))


if __name__ == "__main__":
    main()
