"""A CLIP tokenizer that keeps the world's words whole and spells every other word in bytes."""

from functools import reduce

from transformers import CLIPTokenizer

from tiny.world import Color, Shape, Size

WINDOW = 24  # tokens, with the first and the last
START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
_GRAMMAR = ("a", "an", "on", "background")
# Whole words nobody has trained: room for fine-tuning.
_SPARE = (
    *("the", "of", "and", "with", "in", "two", "three", "picture", "photo", "drawing", "style", "shape"),
    *("diamond", "moon", "sun", "flower", "tree", "house", "bird", "cat", "dog", "face", "arrow", "letter"),
    *("pink", "brown", "gray", "cyan", "striped", "dotted", "outlined", "tiny", "huge", "left", "right", "zorp", "sks"),
)
WORDS: tuple[str, ...] = (*Size, *Color, *Shape, *_GRAMMAR, *_SPARE)


def build() -> CLIPTokenizer:
    """Build it from the word list alone; the same ids every time."""
    letters = list(_byte_letters().values())
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = reduce(_merge, merges, [*word[:-1], word[-1] + _WORD_END])
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    entries = [*letters, *(letter + _WORD_END for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=WINDOW)


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def _byte_letters() -> dict[int, str]:
    """A printable letter for each byte, as GPT-2 has it (github.com/openai/gpt-2, src/encoder.py)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + rank) for rank, byte in enumerate(rest)}
