import stat
from pathlib import Path

import pytest

from cli.environment import check, complete, data_folder, for_processes, keep, read_given, read_running
from cli.refusal import Refusal
from core.domain.policy import UpdatePolicy
from core.infra.settings import Settings, load_settings

LEADS = {
    "DATABASE_URL": "postgresql://u:p@h/d",
    "REDIS_URL": "redis://h/0",
    "S3_BUCKET": "b",
    "S3_ACCESS_KEY_ID": "i",
    "S3_SECRET_ACCESS_KEY": "s",
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)


def test_the_environment_wins_over_the_file_and_empty_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("PORT=6000\nHOST=0.0.0.0\nREDIS_URL=\nOTHER=1\n")
    monkeypatch.setenv("PORT", "7000")
    assert read_given(file) == {"PORT": "7000", "HOST": "0.0.0.0"}


def test_what_the_user_gave_wins_over_what_the_launcher_adds(tmp_path: Path) -> None:
    added = {**LEADS, "S3_PUBLIC_ENDPOINT_URL": "http://127.0.0.1:1"}
    settings = complete({"S3_PUBLIC_ENDPOINT_URL": "https://files"}, added, data=tmp_path)
    assert settings["S3_PUBLIC_ENDPOINT_URL"] == "https://files"
    assert settings["DATA_DIR"] == str(tmp_path)


def test_the_secret_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    first, second = (complete({}, LEADS, data=tmp_path)["SECRET_KEY"] for _ in range(2))
    assert first == second
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
    assert check(complete({}, LEADS, data=tmp_path)).secret_key.get_secret_value() == first


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"PORT: .*less than or equal to 65535"):
        check(complete({"PORT": "70000"}, LEADS, data=tmp_path))
    with pytest.raises(Refusal, match=r"URL_LIFETIME_SECONDS: .*less than or equal to 604800"):
        check(complete({"URL_LIFETIME_SECONDS": "604801"}, LEADS, data=tmp_path))
    assert check(complete({"URL_LIFETIME_SECONDS": "604800"}, LEADS, data=tmp_path)).url_lifetime_seconds == 604800
    with pytest.raises(Refusal, match="DATABASE_URL: Field required"):
        check(complete({}, {}, data=tmp_path))
    with pytest.raises(Refusal, match=r"UPDATE_POLICY\.min_users: .*greater than or equal to 1"):
        check(complete({"UPDATE_POLICY": '{"min_users": 0}'}, LEADS, data=tmp_path))


def test_the_operators_policy_is_json_and_keeps_the_other_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = '{"min_users": 3, "recipe": {"rank": 4}}'
    settings = check(complete({"UPDATE_POLICY": given}, LEADS, data=tmp_path))
    assert (settings.update_policy.min_users, settings.update_policy.recipe.rank) == (3, 4)
    assert settings.update_policy.min_pairs == UpdatePolicy().min_pairs
    for name, value in complete({"UPDATE_POLICY": given}, LEADS, data=tmp_path).items():
        monkeypatch.setenv(name, value)
    assert load_settings().update_policy == settings.update_policy


def test_processes_get_every_setting_and_few_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    environment = for_processes(complete({"TORCH_THREADS": "3"}, LEADS, data=tmp_path))
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment.items() >= LEADS.items()
    assert "PATH" in environment


def test_the_data_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_folder({}) == tmp_path / "data"
    assert data_folder({"DATA_DIR": "/elsewhere"}) == Path("/elsewhere")


def test_settings_that_are_kept_are_found_again(tmp_path: Path) -> None:
    kept = {**LEADS, "SECRET_KEY": 'with # and $ and " and = in it', "DATA_DIR": str(tmp_path)}
    keep(kept, data=tmp_path)
    assert read_running({"DATA_DIR": str(tmp_path)}) == kept
    assert read_running({"DATA_DIR": str(tmp_path), "PORT": "1"})["PORT"] == "1"
    assert stat.S_IMODE((tmp_path / "settings.env").stat().st_mode) == 0o600
