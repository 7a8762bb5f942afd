from pathlib import Path

import pytest
from PIL import Image

from cli.errand import open_client, read_fields, read_pictures
from cli.refusal import Refusal


def test_fields_are_json_where_they_can_be() -> None:
    assert read_fields(["steps=20", "guidance_scale=2.5", "model=tiny", 'adapters=[{"ref": "a"}]', "prompt=a=b"]) == {
        "steps": 20,
        "guidance_scale": 2.5,
        "model": "tiny",
        "adapters": [{"ref": "a"}],
        "prompt": "a=b",
    }


def test_a_field_without_a_value_is_refused() -> None:
    with pytest.raises(Refusal, match="FIELD=VALUE"):
        read_fields(["steps"])


def test_pictures_come_with_the_captions_beside_them(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text(f"caption of {name}\n")
    (tmp_path / "notes.md").touch()
    found = read_pictures(tmp_path)
    assert [(picture.name, picture.caption) for picture in found] == [
        ("a.jpg", "caption of a.jpg"),
        ("b.png", "caption of b.png"),
    ]


def test_a_picture_without_its_caption_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    with pytest.raises(Refusal, match=r"no caption for bare\.png"):
        read_pictures(tmp_path)


def test_an_empty_or_missing_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="holds no PNG"):
        read_pictures(tmp_path)
    with pytest.raises(Refusal, match="There is no folder"):
        read_pictures(tmp_path / "none")


def test_without_a_key_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORIKEET_API_KEY", raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(Refusal, match="lorikeet up"):
        open_client()
