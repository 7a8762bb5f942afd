from uuid import UUID

import numpy as np
import pytest

from core.domain.evaluation import Measure
from core.domain.model_update import Split
from core.domain.preference import PreferenceKind, PreferenceManifest, PreferenceRow
from tiny.taste import COOL, WARM
from tiny.world import KNOWN_SHAPES, Caption, Color, draw
from worker.evaluation.taste_probe import TasteProbe

from .conftest import Album


def mean_score(probe: TasteProbe, colors: tuple[Color, ...]) -> float:
    rng = np.random.default_rng(3)
    pictures = [draw(Caption(shape, color=color), rng) for shape in KNOWN_SHAPES for color in colors]
    return float(np.mean(probe.score(pictures, [""] * len(pictures))))


def test_it_learns_a_taste_from_a_few_pairs(album: Album, manifest: PreferenceManifest) -> None:
    probe = TasteProbe(manifest.of(Split.TRAIN), album.pictures)
    assert probe.measures is Measure.PREFERENCE and probe.can_judge("whatever")
    assert mean_score(probe, WARM) > mean_score(probe, COOL) + 1


def test_it_learns_a_taste_from_likes_however_rare_the_dislikes(album: Album) -> None:
    kinds = [PreferenceKind.LIKED] * 24 + [PreferenceKind.DISLIKED] * 6
    probe = TasteProbe([album.row(kind, Split.TRAIN) for kind in kinds], album.pictures)
    assert mean_score(probe, WARM) > mean_score(probe, COOL) + 1


def test_it_learns_the_opposite_from_the_opposite(album: Album, manifest: PreferenceManifest) -> None:
    turned = [
        row.model_copy(update={"picture": row.rejected, "rejected": row.picture}) for row in manifest.of(Split.TRAIN)
    ]
    probe = TasteProbe(turned, album.pictures)
    assert mean_score(probe, COOL) > mean_score(probe, WARM) + 1


def test_opinions_that_cancel_each_other_leave_it_without_a_view(album: Album, manifest: PreferenceManifest) -> None:
    rows = manifest.of(Split.TRAIN)
    turned = [row.model_copy(update={"picture": row.rejected, "rejected": row.picture}) for row in rows]
    probe = TasteProbe([*rows, *turned], album.pictures)
    assert mean_score(probe, WARM) == pytest.approx(mean_score(probe, COOL), abs=1e-6)


@pytest.mark.parametrize("kinds", [[], [PreferenceKind.LIKED] * 3, [PreferenceKind.DISLIKED]])
def test_without_a_contrast_there_is_no_probe(album: Album, kinds: list[PreferenceKind]) -> None:
    rows: list[PreferenceRow] = [album.row(kind, Split.TRAIN) for kind in kinds]
    with pytest.raises(ValueError, match="hold no pair"):
        TasteProbe(rows, album.pictures)


def test_the_order_of_opinions_does_not_matter(album: Album, manifest: PreferenceManifest) -> None:
    rows = manifest.of(Split.TRAIN)
    again = [row.model_copy(update={"feedback_id": UUID(int=99)}) for row in reversed(rows)]
    one, other = (TasteProbe(each, album.pictures) for each in (rows, again))
    assert mean_score(one, WARM) == pytest.approx(mean_score(other, WARM), rel=1e-9)
