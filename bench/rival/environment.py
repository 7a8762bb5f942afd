"""A virtual environment for somebody else's server: its packages are its own, torch and diffusers those of ours."""

import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

FOLDER = Path("data/bench/rival")


def python_with(*packages: str) -> Path:
    """The interpreter of an environment that has these packages; made when first asked for, which needs a network.

    Raises:
        CalledProcessError: they cannot be installed.
    """
    place = (FOLDER / "-".join(packages)).absolute()
    python, done = place / "bin" / "python", place / "installed"
    if not done.exists():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        own = subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        )
        (Path(own.strip()) / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        done.touch()
    return python
