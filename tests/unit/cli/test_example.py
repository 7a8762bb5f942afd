from cli.example import PATH, text
from core.infra.settings import Settings


def test_the_example_shows_every_setting_as_it_is() -> None:
    assert PATH.read_text() == text(), "run `python -m cli.example`"
    for name, field in Settings.model_fields.items():
        assert f"#{name.upper()}=" in text()
        assert field.description, f"{name} needs a description with its unit"
