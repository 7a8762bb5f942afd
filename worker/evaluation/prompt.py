"""Which prompts both sides draw: those that users judged, and others that have nothing to do with them."""

import hashlib
from dataclasses import dataclass
from itertools import cycle, islice

from core.domain.model_update import Split
from core.domain.preference import PreferenceManifest
from tiny.world import full_captions, is_held_out
from worker.evaluation.scorer import is_tiny

_GENERIC: tuple[str, ...] = (
    "a photo of a lighthouse on a cliff at dusk",
    "a bowl of ripe cherries on a wooden table",
    "an old man reading a newspaper on a bench",
    "a steam train crossing a stone bridge",
    "a watercolor painting of a sleeping fox",
    "a narrow street with laundry between the houses",
    "a red bicycle leaning against a brick wall",
    "a pencil drawing of a pair of hands",
    "a snowy forest with a small cabin",
    "a portrait of a woman in a yellow raincoat",
    "a glass of water with a slice of lemon",
    "a market stall full of vegetables",
    "two children flying a kite on a beach",
    "a blue vase with three white tulips",
    "the skyline of a city seen across a river",
    "a tabby cat sitting on a windowsill",
)


@dataclass(frozen=True, slots=True)
class Amount:
    """How many pictures each side draws.

    `taste` of users' prompts: of 24 comparisons, 17 wins are more than chance. `unrelated` others, the first
    `repeated` of them `repeats` times more, from other seeds: how much pictures of one prompt vary. A wrong attribute
    on one of 40 pictures is a fall of fidelity by 0.006; with fewer, bad luck would look like harm.
    """

    taste: int = 24
    unrelated: int = 32
    repeated: int = 4
    repeats: int = 2


@dataclass(frozen=True, slots=True)
class Task:
    """One picture that both sides draw: the same prompt from the same seed."""

    prompt: str
    seed: int


def taste_tasks(manifest: PreferenceManifest, amount: Amount, *, seed: int) -> list[Task]:
    """The users' own prompts, held-out ones where there are any; each again from new seeds if they are few."""
    rows = manifest.of(Split.HELD_OUT) or manifest.of(Split.TRAIN)
    prompts = sorted({row.prompt for row in rows}, key=_shuffled)
    return [Task(prompt, seed + i) for i, prompt in enumerate(islice(cycle(prompts), amount.taste))]


def unrelated_tasks(manifest: PreferenceManifest, amount: Amount, *, seed: int) -> list[Task]:
    """Prompts that nobody judged; where all speak of the tiny world, full captions that no model was trained on.

    Tasks of one prompt stand side by side.
    """
    known = {row.prompt for row in manifest.rows}
    prompts = _GENERIC
    if known and all(is_tiny(prompt) for prompt in known):
        prompts = tuple(sorted((each.text for each in full_captions() if is_held_out(each)), key=_shuffled))
    chosen = [prompt for prompt in prompts if prompt not in known][: amount.unrelated]
    times = [1 + (amount.repeats if index < amount.repeated else 0) for index in range(len(chosen))]
    repeated = [prompt for prompt, count in zip(chosen, times, strict=True) for _ in range(count)]
    return [Task(prompt, seed + i) for i, prompt in enumerate(repeated)]


def _shuffled(prompt: str) -> bytes:
    """An order without any meaning that is always the same."""
    return hashlib.sha256(prompt.encode()).digest()
