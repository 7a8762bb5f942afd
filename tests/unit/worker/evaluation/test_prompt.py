from core.domain.model_update import Split
from core.domain.preference import PreferenceManifest
from tiny.world import is_held_out, parse
from worker.evaluation.prompt import Amount, taste_tasks, unrelated_tasks

FULL = Amount()


def named(manifest: PreferenceManifest, prompt: str) -> PreferenceManifest:
    return PreferenceManifest(rows=tuple(row.model_copy(update={"prompt": prompt}) for row in manifest.rows))


def test_users_prompts_are_the_held_out_ones_each_picture_from_a_seed_of_its_own(manifest: PreferenceManifest) -> None:
    tasks = taste_tasks(manifest, FULL, seed=100)
    assert {task.prompt for task in tasks} == {row.prompt for row in manifest.of(Split.HELD_OUT)}
    assert [task.seed for task in tasks] == list(range(100, 124))


def test_without_held_out_rows_the_prompts_trained_on_are_drawn(manifest: PreferenceManifest) -> None:
    trained = PreferenceManifest(rows=tuple(manifest.of(Split.TRAIN)))
    assert {task.prompt for task in taste_tasks(trained, FULL, seed=0)} == {row.prompt for row in trained.rows}
    assert taste_tasks(PreferenceManifest(rows=()), FULL, seed=0) == []


def test_unrelated_prompts_of_the_tiny_world_are_full_and_were_never_trained_on(manifest: PreferenceManifest) -> None:
    tasks = unrelated_tasks(manifest, FULL, seed=0)
    assert len(tasks) == 40 and len({task.prompt for task in tasks}) == 32
    assert all(is_held_out(parse(task.prompt)) and parse(task.prompt).is_full for task in tasks)
    assert [task.prompt for task in tasks[:3]] == [tasks[0].prompt] * 3
    assert len({task.seed for task in tasks}) == 40


def test_other_models_get_prompts_of_the_real_world_that_nobody_judged(manifest: PreferenceManifest) -> None:
    first = unrelated_tasks(named(manifest, "a photo of a cat"), FULL, seed=0)[0].prompt
    tasks = unrelated_tasks(named(manifest, first), FULL, seed=0)
    assert first not in {task.prompt for task in tasks} and len({task.prompt for task in tasks}) == 15
    assert unrelated_tasks(PreferenceManifest(rows=()), FULL, seed=0)
