"""A contact sheet: rows of pictures with their captions, in one PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image, ImageDraw, ImageFont

_CELL = 192  # pixels a side
_GAP = 12
_TEXT_HEIGHT = 28
_PAPER, _INK = (250, 250, 248), (30, 30, 30)


@dataclass(frozen=True)
class Row:
    """Pictures side by side under one caption."""

    caption: str
    pictures: Sequence[Image.Image]


def write(target: Path | IO[bytes], title: str, rows: Sequence[Row]) -> None:
    """Draw the rows below a title, as PNG; small pictures are enlarged without smoothing, so their pixels show."""
    heading, caption = ImageFont.load_default(20), ImageFont.load_default(15)
    columns = max(len(row.pictures) for row in rows)
    words = max(heading.getlength(title), *(caption.getlength(row.caption) for row in rows))
    width = _GAP + max(columns * (_CELL + _GAP), int(words) + _GAP)
    height = 2 * _GAP + _TEXT_HEIGHT + len(rows) * (_TEXT_HEIGHT + _CELL + _GAP)
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, _GAP), title, fill=_INK, font=heading)
    top = _GAP + _TEXT_HEIGHT + _GAP
    for row in rows:
        pen.text((_GAP, top), row.caption, fill=_INK, font=caption)
        for column, picture in enumerate(row.pictures):
            enlarged = picture.convert("RGB").resize((_CELL, _CELL), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (_GAP + column * (_CELL + _GAP), top + _TEXT_HEIGHT))
        top += _TEXT_HEIGHT + _CELL + _GAP
    sheet.save(target, "PNG")
