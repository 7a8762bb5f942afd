from pathlib import Path

from PIL import Image

from core.infra.contact_sheet import Row, write


def test_pictures_are_on_the_sheet_side_by_side(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (64, 64), color) for color in ("red", "blue"))
    path = tmp_path / "sheet.png"
    write(path, "title", [Row("both", [red, blue]), Row("one", [blue])])
    with Image.open(path) as sheet:
        colors = {color: count for count, color in sheet.getcolors(10**6) or []}
    assert colors[(255, 0, 0)] == 192 * 192
    assert colors[(0, 0, 255)] == 2 * 192 * 192


def test_long_words_have_room(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 64), "red")
    widths = []
    for number, caption in enumerate(("short", "long " * 40)):
        path = tmp_path / f"{number}.png"
        write(path, "title", [Row(caption, [picture])])
        with Image.open(path) as sheet:
            widths.append(sheet.width)
    assert widths[0] == 192 + 2 * 12 < widths[1]
