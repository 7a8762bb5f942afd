import re
from enum import StrEnum

import pytest

from cli.manual import PATH, text
from core.domain.model_update import ModelUpdateStatus
from core.domain.opinion import Rule


def test_the_page_shows_the_policies_and_the_figures_as_they_are() -> None:
    assert PATH.read_text() == text(), "run `python -m cli.manual`"


@pytest.mark.parametrize("names", [Rule, ModelUpdateStatus])
def test_the_page_names_every_state_and_every_rule(names: type[StrEnum]) -> None:
    explained = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", PATH.read_text(), re.MULTILINE))))
    assert set(names) <= explained
