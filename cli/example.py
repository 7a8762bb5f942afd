"""`.env.example`: every setting with its default and unit, written from the settings themselves."""

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from cli.environment import ROOT
from core.infra.settings import Settings

PATH = ROOT / ".env.example"
_HEAD = """\
# Every setting, with its default. Copy this file to .env and change what you like; the environment wins over .env.
# `make run` needs none of them: it starts servers of its own where no address is given.
"""


def text() -> str:
    """The whole file."""
    lines = [_HEAD]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (PydanticUndefined, None) else field.default
        shown = default.get_secret_value() if isinstance(default, SecretStr) else default
        lines.append(f"# {field.description}\n#{name.upper()}={shown}\n")
    return "\n".join(lines)


if __name__ == "__main__":
    PATH.write_text(text())
