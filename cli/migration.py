"""Brings a database to the newest schema."""

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from cli.environment import ROOT
from cli.refusal import Refusal


def migrate(url: str) -> None:
    """Run what `alembic upgrade head` runs, in this process: a second start has nothing to do, and should be quick.

    Raises:
        Refusal: the database does not let us in, or cannot be changed.
    """
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["database_url"] = url
    try:
        command.upgrade(config, "head")
    except DBAPIError as error:
        said = " ".join(str(error.orig).split())
        raise Refusal(f"The database could not be brought to this version. It said: {said}") from error
