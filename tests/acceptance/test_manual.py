"""The commands of docs/learning.md do what they say."""

import re
import subprocess
from pathlib import Path

from cli.manual import PATH
from tests.acceptance.conftest import Found

BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
AT_HOME = 'AUTH="Authorization: Bearer $(cat data/api_key)"; API=http://127.0.0.1:5000/api\n'
STRICT = "set -euo pipefail\ncurl() { command curl --noproxy '*' --fail-with-body \"$@\"; }\n"


def test_the_commands_of_the_page_work(found: Found, tmp_path: Path) -> None:
    reader = found("reader")
    blocks = [block for block in BLOCK.findall(PATH.read_text()) if "ADAPTER" not in block]
    assert blocks[0].startswith(AT_HOME)
    here = f'AUTH="Authorization: Bearer $KEY"; API={reader.client.url}/api\n'
    script = STRICT + "".join(blocks).replace(AT_HOME, here)
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "KEY": reader.key},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
