"""What training sees: no held-out combination, no novel shape, captions that fit their pictures."""

import torch
from PIL import Image

from tiny import tokenizer
from tiny.corpus import CaptionTable, draw_corpus, draw_varied
from tiny.scorer import read, score
from tiny.world import NOVEL_SHAPES, Caption, is_held_out, parse


def test_no_held_out_combination_is_drawn() -> None:
    corpus = draw_corpus(700, seed=0)
    for picture in corpus.pictures:
        seen = read(Image.fromarray(picture))
        assert seen.shape is not None
        assert seen.shape not in NOVEL_SHAPES
        assert not is_held_out(Caption(seen.shape, seen.color, seen.size, seen.background))


def test_captions_fit_their_pictures() -> None:
    corpus = draw_corpus(400, seed=1)
    words = tokenizer.build()
    ids = CaptionTable(words).sample(corpus.labels, torch.Generator().manual_seed(0))
    texts = [text.strip() for text in words.batch_decode(ids, skip_special_tokens=True)]
    captions = [parse(text) if text else None for text in texts]
    for picture, caption in zip(corpus.pictures, captions, strict=True):
        assert caption is None or score(Image.fromarray(picture), caption).all_four
    assert 0.04 < texts.count("") / 400 < 0.17
    assert 0.4 < sum(caption is not None and caption.is_full for caption in captions) / 400 < 0.65


def test_pictures_for_the_autoencoder_are_deterministic() -> None:
    first, second = draw_varied(20, seed=0), draw_varied(20, seed=0)
    assert first.shape == (20, 64, 64, 3)
    assert (first == second).all()
