"""What a job's progress looks like in a terminal."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.client import Client, Job


def follow(client: Client, job: Job, *, title: str, console: Console) -> Job:
    """Show a bar until the job has succeeded; the finished job.

    Raises:
        Refusal: it ended in another way.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[word]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=1.0, word="")

        def show(now: Job) -> None:
            progress.update(bar, completed=_share(now), word=_word(now))

        return client.finish(job, on_change=show)


def _share(job: Job) -> float:
    return 1.0 if job["status"] == "succeeded" else float((job.get("progress") or {}).get("value") or 0.0)


def _word(job: Job) -> str:
    progress = job.get("progress") or {}
    if job["status"] == "queued" and job.get("queue_position") is not None:
        return f"queued, {job['queue_position']} ahead"
    if job["status"] == "running" and progress.get("steps"):
        return f"step {progress['step']} of {progress['steps']}"
    return str(job["status"])
