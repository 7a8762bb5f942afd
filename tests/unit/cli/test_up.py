import io
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from rich.console import Console

from cli.system import System
from cli.up import say_commands


def test_the_commands_to_copy_are_valid_shell() -> None:
    said = io.StringIO()
    system = SimpleNamespace(
        client=SimpleNamespace(url="http://127.0.0.1:5000"), settings=SimpleNamespace(data_dir=Path("/some/data"))
    )
    say_commands(cast(System, system), Console(file=said, width=60))
    script = said.getvalue().partition("\n\n")[2].rpartition("Ctrl-C")[0]
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert script.count("curl") == 4
    assert "{" not in script.replace('{"', "")
