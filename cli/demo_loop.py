"""`lorikeet demo-loop`: users with a hidden taste say what they like, and the model learns it before your eyes."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.client import Client
from cli.crowd import Crowd, Visit, draw
from cli.environment import data_folder, read_given
from cli.exam import Exam, Sitting
from cli.interruption import stoppable
from cli.refusal import Refusal, explained
from cli.system import System, running
from cli.up import await_model
from core.infra import contact_sheet
from core.infra.contact_sheet import Row
from tiny.recipe import TINY_RECIPE
from tiny.taste import TASTES

TASTE = TASTES["warm"]
USERS = 40
CHOICES = 120
PICTURES = 128
SHOWN = 2
MOST_CANARY_VISITS = 300
POLICY: dict[str, Any] = {
    "min_new_labels": CHOICES,
    "many_new_labels": CHOICES,
    "min_users": USERS // 2,
    "cooldown_hours": 0.0,
    "approval_below": 0,
    "recipe": TINY_RECIPE,
    "rollout": {"canary_share": 0.5},
}
"""Small numbers for a small model; a service of many users takes the defaults."""

_AT_WORK = ("planned", "training", "evaluating")
_GLANCE_SECONDS = 0.5
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[word]}"), TimeElapsedColumn())


class Story:
    """What is told on the way, each sentence with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self.console, self._began = console, time.monotonic()

    def tell(self, words: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/dim]  ", end="")
        self.console.print(words, markup=False)

    @contextmanager
    def bar(self, title: str, *, total: float) -> Iterator[Callable[[float, str], None]]:
        """A bar for as long as the block runs; call what it gives with how far it is and a word."""
        with Progress(*_COLUMNS, console=self.console) as progress:
            task = progress.add_task(title, total=total, word="")

            def show(done: float, word: str) -> None:
                progress.update(task, completed=done, word=word)

            yield show


def demo_loop(console: Console) -> None:
    """Start everything, let a crowd choose, follow the update that it starts, show what changed, and stop.

    Raises:
        Refusal: something went wrong on the way, said in one sentence.
    """
    story, given = Story(console), dict(read_given())
    # Its champion and its policy are not for the pictures that are made here otherwise.
    sheet = data_folder(given) / "demo-loop.png"
    given["DATA_DIR"] = str(data_folder(given) / "demo-loop")
    with stoppable(), running(given, say=lambda words: console.print(words, markup=False)) as system:
        await_model(system, console)
        story.tell(f"serving on {system.client.url}; logs are in {system.settings.data_dir / 'logs'}")
        _learn(system, story, sheet_path=sheet)
    story.tell("everything is stopped")


def _learn(system: System, story: Story, *, sheet_path: Path) -> None:
    client, name = system.client, system.settings.default_model
    model_id = next(model["id"] for model in client.models() if model["name"] == name)
    _begin_anew(client, model_id)
    client.set_policy(model_id, POLICY)
    crowd = Crowd(client, TASTE, users=USERS, model=name)
    exam = Exam(client, TASTE, model=name, pictures=PICTURES)
    update_id = _choose(crowd, client, model_id, story)
    with _aside() as pool:  # the base is examined while the training worker works
        before = pool.submit(exam.sit, None, shown=SHOWN, on_picture=lambda _: None)
        update = _follow(client, update_id, story)
        base = before.result()
    _tell_verdict(update, story)
    if update["status"] == "canary":
        update = _try_live(crowd, client, update, story)
    story.tell(f"the update is {update['status']}: {update['outcome_reason']}")
    if update["adapter_id"] is None:
        raise Refusal("The update made no adapter; its report says why.")
    adapter = client.adapter(update["adapter_id"])
    with story.bar(f"The same prompts and seeds with {adapter['ref']}", total=exam.pictures) as show:
        after = exam.sit(adapter["ref"], shown=SHOWN, on_picture=lambda done: show(done, f"{done} pictures"))
    _tell_change(base, after, update, story)
    _write_sheet(sheet_path, base, after)
    story.tell(f"the contact sheet: {sheet_path}")
    _tell_lineage(client, name, adapter["ref"], story)


@contextmanager
def _aside() -> Iterator[ThreadPoolExecutor]:
    """A thread beside this one; whoever is stopped does not wait for it."""
    pool = ThreadPoolExecutor(1)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin_anew(client: Client, model_id: str) -> None:
    """Leave nothing of an earlier run in flight or in service."""
    for update in client.updates():
        if update["model_id"] == model_id and update["completed_at"] is None:
            client.cancel_update(update["id"])
    while serving := [each for each in client.adapters() if each["stage"] in ("canary", "champion")]:
        client.roll_back(serving[0]["id"], reason="the demo begins anew")


def _choose(crowd: Crowd, client: Client, model_id: str, story: Story) -> str:
    """Let the crowd choose until the policy starts an update; its id."""
    title, choices, visits = "Users choose between two pictures", 0, 0
    with story.bar(title, total=CHOICES) as show:

        def is_over(visit: Visit) -> bool:
            nonlocal choices, visits
            visits, choices = visits + 1, choices + (visit.feedback is not None)
            show(choices, f"{choices} choices of {visits} visits")
            return choices >= CHOICES and bool(_in_flight(client, model_id))

        crowd.visit_until(is_over)
    update_id = _in_flight(client, model_id)
    story.tell(f"{visits} visits, {choices} choices; the rest liked both pictures as much")
    story.tell(f"the policy: {client.update(update_id)['reason']['because']}")
    return update_id


def _in_flight(client: Client, model_id: str) -> str:
    return str(client.policy(model_id)["standing"]["in_flight_update_id"] or "")


def _follow(client: Client, update_id: str, story: Story) -> dict[str, Any]:
    """Wait until the update's job is over; the update as it then is."""
    with story.bar("The update trains, then is judged on what it did not see", total=1.0) as show:
        while (update := client.update(update_id))["status"] in _AT_WORK:
            progress = update["progress"] or {}
            show(progress.get("value", 0.0), progress.get("message") or update["status"])
            time.sleep(_GLANCE_SECONDS)
        show(1.0, update["status"])
    return update


def _tell_verdict(update: Mapping[str, Any], story: Story) -> None:
    verdict = update["verdict"]
    if verdict is None:
        raise Refusal(f"The update {update['status']}: {update['outcome_reason']}")
    counts = update["counts"]
    story.tell(f"trained on {counts['train']} choices, judged on {counts['held_out']}, left out {counts['excluded']}")
    story.tell(f"the verdict: {verdict['decision']}")
    for gate in verdict["gates"]:
        story.tell(f"    {gate['sentence']}")


def _try_live(crowd: Crowd, client: Client, update: dict[str, Any], story: Story) -> dict[str, Any]:
    """Let the crowd compare the canary with the base, side by side, until the test has seen enough."""
    with story.bar("Users compare the canary with the base", total=MOST_CANARY_VISITS) as show:
        visits = compared = 0

        def is_over(visit: Visit) -> bool:
            nonlocal visits, compared, update
            visits, compared = visits + 1, compared + (len(visit.arms) == 2 and visit.feedback is not None)
            update = client.update(update["id"])
            show(visits, f"{compared} choices between both")
            return update["status"] != "canary" or visits >= MOST_CANARY_VISITS

        crowd.visit_until(is_over)
    story.tell(f"{visits} visits, {compared} choices between the canary and the base")
    return client.update(update["id"])


def _tell_change(before: Sitting, after: Sitting, update: Mapping[str, Any], story: Story) -> None:
    accuracy = (update["report"] or {}).get("accuracy")
    story.tell(f"pictures to the users' taste where the words leave room: {before.taste:.2f} -> {after.taste:.2f}")
    story.tell(f"pictures of full captions with all four right: {before.fidelity:.2f} -> {after.fidelity:.2f}")
    if accuracy:
        story.tell(f"held-out choices that the adapter agrees with: {accuracy['value']:.2f} of {accuracy['count']}")


def _write_sheet(path: Path, before: Sitting, after: Sitting) -> None:
    rows = []
    for (caption, old), (_, new) in zip(before.shown, after.shown, strict=True):
        rows += [Row(f"{caption}: before", old), Row(f"{caption}: after", new)]
    with explained(path):
        contact_sheet.write(path, "The same prompts and seeds, before and after the users' choices", rows)


def _tell_lineage(client: Client, model: str, ref: str, story: Story) -> None:
    """Make one more picture, and walk back from it to somebody's word."""
    job = draw(client, {"prompt": "a star", "model": model, "seed": 1, "adapters": [{"ref": ref}]})
    lineage = client.lineage("images", job["outputs"][0]["id"])
    story.tell(f"a picture of “{lineage['image']['prompt']}”, seed {lineage['image']['seed']}")
    up = lineage["up"]
    for adapter in up["adapters"]:
        story.tell(f"    was drawn with {adapter['ref']}, {adapter['stage']}")
    for update in up["updates"]:
        story.tell(f"    which update {update['id']} made from {update['train'] + update['held_out']} choices")
    if up["rows"]:
        row = up["rows"][0]
        said, image = row["feedback"], row["image"]
        story.tell(f"    one of them by {said['user_ref']}, who asked for “{row['prompt']}”")
        story.tell(f"    and chose image {said['image_id']} over {said['rejected_image_id']}")
        drawn_with = ", ".join(f"{each['name']}@{each['version']}" for each in image["adapters"]) or "the bare base"
        story.tell(f"    which {drawn_with} had drawn from seed {image['seed']}")
