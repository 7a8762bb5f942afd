"""`lorikeet admin`: what an operator does beside the API, straight on the database."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console

from cli import keys
from cli import limits as limit_words
from cli.environment import check, read_given, read_running
from cli.refusal import Refusal
from cli.standing import standing
from core.domain.api_key import Scope
from core.domain.base_model import BaseModelSpec, SourceKind, parse_source
from core.domain.errors import LorikeetError
from core.domain.limit import LIMIT_NAMES
from core.infra.database import Database
from core.infra.settings import Settings

app = typer.Typer(help="Tenants, keys, limits, models and workers, straight on the database.", no_args_is_help=True)
tenant_app = typer.Typer(help="Whose jobs and files these are.", no_args_is_help=True)
key_app = typer.Typer(help="API keys.", no_args_is_help=True)
limit_app = typer.Typer(help="What a tenant may use.", no_args_is_help=True)
model_app = typer.Typer(help="Base models.", no_args_is_help=True)
app.add_typer(tenant_app, name="tenant")
app.add_typer(key_app, name="keys")
app.add_typer(limit_app, name="limits")
app.add_typer(model_app, name="model")
console = Console(highlight=False, soft_wrap=True)

TenantName = Annotated[str, typer.Option("--tenant", help="Name of the tenant.")]


@contextmanager
def _opened() -> Iterator[tuple[Settings, Database]]:
    settings = check(read_running(read_given()))
    database = Database(settings.database_url, pool_size=1)
    try:
        yield settings, database
    except LorikeetError as error:
        raise Refusal(error.message) from error
    finally:
        database.close()


@app.command()
def bootstrap() -> None:
    """Make the bucket, the first tenant with its key, and the first base model, where they are missing."""
    from cli.bootstrap import bootstrap

    settings = check(read_running(read_given()))
    bootstrap(settings, key_file=settings.data_dir / "api_key", say=console.print)


@app.command()
def backup(folder: Path) -> None:
    """Write the database and all objects into a new folder; the system may go on meanwhile."""
    from cli.backup import back_up

    with standing(read_given()) as settings:
        back_up(settings, folder.absolute(), say=console.print)


@app.command()
def restore(folder: Path) -> None:
    """Bring a backup into an empty database and an empty bucket: a new DATA_DIR, or servers of your own."""
    from cli.backup import restore

    with standing(read_given()) as settings:
        restore(settings, folder.absolute(), say=console.print)


@app.command("worker-alive")
def worker_alive() -> None:
    """Exit code 0 where a worker of this host has said lately that it lives, 1 elsewhere."""
    from core.services import run as runs

    with _opened() as (_, database), database.transaction() as session:
        if not runs.lives_on(session, host=platform.node()):
            raise Refusal(f"No worker of {platform.node()} has said lately that it lives.")


@app.command("upkeep-alive")
def upkeep_alive() -> None:
    """Exit code 0 where upkeep of this host has got through a round lately, 1 elsewhere."""
    from core.services import upkeep

    with _opened() as (_, database), database.transaction() as session:
        if not upkeep.lives_on(session, host=platform.node()):
            raise Refusal(f"No upkeep of {platform.node()} has got through a round lately.")


@app.command()
def adapters() -> None:
    """Show what each live worker holds in memory: its base models, its adapters by tier, how often they were there."""
    from cli.residency import table_of
    from core.services import census

    with _opened() as (_, database), database.transaction() as session:
        live = census.live_workers(session)
    console.print(table_of(live) if live else "No worker has said lately that it lives.", markup=False)


@tenant_app.command("add")
def add_tenant(name: str) -> None:
    """Add a tenant."""
    from core.services import tenant as tenants

    with _opened() as (_, database), database.transaction() as session:
        tenants.create_tenant(session, name=name)
    console.print(f"Tenant {name} is there; it needs a key: lorikeet admin keys add --tenant {name}")


@tenant_app.command("list")
def list_tenants() -> None:
    """List the tenants."""
    from core.infra.repository import tenant as rows

    with _opened() as (_, database), database.transaction() as session:
        for tenant in rows.all_tenants(session):
            console.print(f"{tenant.id}  {tenant.name}")


@key_app.command("add")
def add_key(
    tenant: TenantName = "default",
    name: str = "key",
    scopes: Annotated[str, typer.Option(help="What it may do, comma-separated.")] = ",".join(Scope),
    expires_in: Annotated[str | None, typer.Option(help="30m, 12h or 90d; never unless given.")] = None,
) -> None:
    """Make a key and print it, this once."""
    from core.services import api_key as api_keys
    from core.services import tenant as tenants

    may = keys.read_scope_words(scopes)
    lifetime = keys.read_duration(expires_in) if expires_in is not None else None
    with _opened() as (_, database), database.transaction() as session:
        owner = tenants.find_tenant(session, name=tenant)
        key = api_keys.create(session, tenant_id=owner.id, name=name, scopes=may, lifetime=lifetime)
    typer.echo(key)


@key_app.command("list")
def list_keys(tenant: TenantName = "default") -> None:
    """List a tenant's keys by their first letters; the keys themselves are nowhere."""
    from core.infra.repository import api_key as rows
    from core.services import tenant as tenants

    with _opened() as (_, database), database.transaction() as session:
        owner = tenants.find_tenant(session, name=tenant)
        table = keys.table_of(rows.of_tenant(session, tenant_id=owner.id), now=rows.now(session))
    console.print(table, markup=False)


@key_app.command("rotate")
def rotate_key(
    key_id: UUID,
    overlap: Annotated[str, typer.Option(help="For how long the old one goes on.")] = "24h",
    expires_in: Annotated[str | None, typer.Option(help="30m, 12h or 90d; as the old one's life unless given.")] = None,
) -> None:
    """Print a new key of the same name and scopes; the old one goes on for a while, then ends."""
    from core.services import api_key as api_keys

    for_as_long = keys.read_duration(overlap)
    lifetime = keys.read_duration(expires_in) if expires_in is not None else None
    with _opened() as (_, database), database.transaction() as session:
        key = api_keys.rotate(session, key_id=key_id, overlap=for_as_long, lifetime=lifetime)
    typer.echo(key)


@key_app.command("revoke")
def revoke_key(key_id: UUID) -> None:
    """End a key's life; it opens no door a few seconds later."""
    from core.services import api_key as api_keys

    with _opened() as (_, database), database.transaction() as session:
        api_keys.revoke(session, key_id=key_id)
    console.print(f"Key {key_id} is revoked.")


@limit_app.command("show")
def show_limits(tenant: TenantName = "default") -> None:
    """Show what a tenant may use; inf is no limit."""
    from core.services import limit as limits
    from core.services import tenant as tenants

    with _opened() as (settings, database), database.transaction() as session:
        owner = tenants.find_tenant(session, name=tenant)
        found = limits.limits_of(session, tenant_id=owner.id, default=settings.limits)
    for name in LIMIT_NAMES:
        console.print(f"{name}  {getattr(found, name):g}")


@limit_app.command("set")
def set_limits(changes: list[str], tenant: TenantName = "default") -> None:
    """Give a tenant limits of its own: NAME=NUMBER, inf for none, default for what the settings say."""
    from core.services import limit as limits
    from core.services import tenant as tenants

    given = limit_words.read_changes(changes)
    with _opened() as (_, database), database.transaction() as session:
        owner = tenants.find_tenant(session, name=tenant)
        limits.set_limits(session, tenant_id=owner.id, changes=given)
    show_limits(tenant)


@model_app.command("add")
def add_model(
    name: str,
    source: str,
    revision: str | None = None,
    tenant: TenantName = "default",
    shared: Annotated[bool, typer.Option(help="Offer it to every tenant.")] = True,
) -> None:
    """Register a base model: a folder, an s3://bucket/prefix, or a hub id with its --revision.

    Only a shared model is fetched from the hub with HF_TOKEN, and what MODEL_SOURCES names.
    """
    from core.infra.task_queue import TaskQueue
    from core.services import model as models
    from core.services import tenant as tenants

    if parse_source(source).kind is SourceKind.FOLDER or Path(source).is_dir():
        source = str(Path(source).resolve())
    try:
        spec = BaseModelSpec(name=name, source=source, revision=revision)
    except ValidationError as error:
        raise Refusal("; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())) from error
    with _opened() as (settings, database):
        queue = TaskQueue(settings)
        with database.transaction() as session:
            owner = tenants.find_tenant(session, name=tenant)
            models.register(session, spec, tenant_id=owner.id, shared=shared, queue=queue)
        queue.close()
    console.print(f"{name} is registered; a worker checks it now. See: lorikeet admin model list")


@model_app.command("list")
def list_models(tenant: TenantName = "default") -> None:
    """List the base models that a tenant may use."""
    from core.infra.repository import base_model as rows
    from core.services import tenant as tenants

    with _opened() as (_, database), database.transaction() as session:
        owner = tenants.find_tenant(session, name=tenant)
        for model in rows.page(session, tenant_id=owner.id, limit=100, cursor=None)[0]:
            console.print(f"{model.status:8}  {model.name}  {model.source}  {model.status_reason or ''}", markup=False)
