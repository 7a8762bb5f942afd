"""The vocabulary: the world's words whole, everything else spelled, nothing refused."""

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from tiny.tokenizer import WINDOW, WORDS, build


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return build()


def test_every_word_is_one_token(tokenizer: CLIPTokenizer) -> None:
    assert {word: len(tokenizer.tokenize(word)) for word in WORDS} == dict.fromkeys(WORDS, 1)
    assert len({tokenizer.tokenize(word)[0] for word in WORDS}) == len(WORDS)


@pytest.mark.parametrize(
    "text", ["", "quux", "Zorpé", "火の鳥", "😀😀", "a\u0000b", "\ud7ff\uffff", "12 (red:1.3)", "x" * 500]
)
def test_any_text_is_spelled(tokenizer: CLIPTokenizer, text: str) -> None:
    ids = tokenizer(text, padding="max_length", truncation=True).input_ids
    assert len(ids) == WINDOW
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id in ids
    assert max(ids) < len(tokenizer)


def test_unknown_words_differ(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer("quux").input_ids != tokenizer("quuz").input_ids


def test_it_stores_and_loads(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    text = "A large red star on a blue background, quux 火"
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert loaded.model_max_length == WINDOW
