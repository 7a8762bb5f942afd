"""The `lorikeet` command."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.admin import app as admin_app
from cli.refusal import Refusal

app = typer.Typer(
    help="Stable Diffusion that learns from its users.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False, soft_wrap=True)

app.add_typer(admin_app, name="admin")

JobId = Annotated[str, typer.Argument(help="The id of a job.")]
Name = Annotated[str, typer.Option(help="A name for the adapter.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder for the files that the job makes.")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="FIELD=VALUE", help="Any other field of the request, such as steps=20."),
]


@app.command()
def up(once: Annotated[bool, typer.Option("--once", help="Stop after the first picture.")] = False) -> None:
    """Start the whole system on this machine and make a first picture; Ctrl-C stops it."""
    from cli.up import up

    up(console, once=once)


@app.command()
def demo() -> None:
    """Start, make a picture, fine-tune a LoRA, leave a contact sheet in data/demo.png, and stop."""
    from cli.demo import demo

    demo(console)


@app.command("demo-loop")
def demo_loop() -> None:
    """Start, let simulated users choose, retrain on it, try it live, leave a sheet in data/demo-loop.png, and stop."""
    from cli.demo_loop import demo_loop

    demo_loop(console)


@app.command()
def submit(prompt: str, fields: Fields = None, out: OutFolder = Path(), wait: bool = True) -> None:
    """Make pictures of a text."""
    from cli.errand import submit

    submit(console, prompt, fields or [], out=out if wait else None)


@app.command("fine-tune")
def fine_tune(folder: Path, name: Name, fields: Fields = None, out: OutFolder = Path(), wait: bool = True) -> None:
    """Train a LoRA on a folder of pictures, each with its caption in a .txt file of the same name."""
    from cli.errand import fine_tune

    fine_tune(console, folder, name, fields or [], out=out if wait else None)


@app.command()
def watch(job: JobId, out: OutFolder = Path()) -> None:
    """Follow a job to its end and fetch what it made."""
    from cli.errand import watch

    watch(console, job, out=out)


@app.command()
def cancel(job: JobId) -> None:
    """Ask a job to stop."""
    from cli.errand import cancel

    cancel(console, job)


def main() -> None:
    """Run the command line; a refusal is one sentence on stderr, and exit code 1."""
    try:
        app(standalone_mode=True)
    except Refusal as refusal:
        Console(stderr=True, highlight=False).print(str(refusal), markup=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
