import os
import time
from pathlib import Path

from core.domain.job import JobKind
from tests.job_bench import JobBench
from worker.handler.workbench import work_folder
from worker.runner import Run
from worker.runtime import Runtime


def claimed(bench: JobBench, runtime: Runtime) -> Run:
    bench.submit(kind=JobKind.REGISTRATION)
    return Run(bench.must_claim(), runtime)


def leave_for_days(folder: Path) -> None:
    days_ago = time.time() - 3 * 24 * 3600
    os.utime(folder, (days_ago, days_ago))


def test_a_folder_is_there_for_its_run_alone(bench: JobBench, runtime: Runtime) -> None:
    run = claimed(bench, runtime)
    with work_folder(runtime, run) as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_what_a_killed_run_left_behind_goes(bench: JobBench, runtime: Runtime) -> None:
    run = claimed(bench, runtime)
    root = runtime.settings.data_dir / "work"
    own, old, young = (root / name for name in (f"{run.job_id}-0", "old-1", "young-1"))
    for folder in (own, old, young):
        folder.mkdir(parents=True)
        (folder / "lock").touch()
    leave_for_days(old)
    with work_folder(runtime, run):
        assert [folder.exists() for folder in (own, old, young)] == [False, False, True]


def test_a_run_of_days_keeps_its_folder(bench: JobBench, runtime: Runtime) -> None:
    with work_folder(runtime, claimed(bench, runtime)) as folder:
        leave_for_days(folder)
        with work_folder(runtime, claimed(bench, runtime)):
            assert folder.is_dir()


def test_a_run_that_ends_meanwhile_harms_none(bench: JobBench, runtime: Runtime) -> None:
    root = runtime.settings.data_dir / "work"
    root.mkdir(parents=True)
    (root / "gone-1").symlink_to("nowhere")  # listed, and not there when it is looked at
    with work_folder(runtime, claimed(bench, runtime)) as folder:
        assert folder.is_dir()
