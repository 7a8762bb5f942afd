"""Environment → frozen Settings; built by main files only, passed down."""

from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, SecretStr, field_validator
from pydantic_core import from_json
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.domain.limit import Limits
from core.domain.policy import UpdatePolicy
from core.domain.retention import Retention


class Settings(BaseSettings):
    """Every setting of every process. `.env.example` shows each with its default and unit.

    A field's environment variable is its name in capitals.
    """

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    # Outside systems. No default: `lorikeet up` fills in its embedded servers, compose its services.
    database_url: str = Field(description="Postgres, as postgresql://user:password@host:port/name")
    redis_url: str = Field(description="Redis or Valkey, as redis://[:password@]host:port/number")
    s3_endpoint_url: str | None = Field(default=None, description="S3 endpoint; empty means AWS")
    s3_bucket: str = Field(description="bucket of every artifact; created when missing")
    s3_access_key_id: str = Field(description="S3 access key id")
    s3_secret_access_key: SecretStr = Field(description="S3 secret access key")
    s3_region: str = Field(default="us-east-1", description="S3 region")
    s3_public_endpoint_url: str | None = Field(
        default=None,
        description="S3 endpoint from which clients may fetch files; empty means that they get them through the API",
    )
    secret_key: SecretStr = Field(min_length=32, description="signs the URLs and tokens that the API hands out")

    # The API.
    host: str = Field(
        default="127.0.0.1", description="address of the API that `lorikeet up` starts; else it is uvicorn's --host"
    )
    port: int = Field(
        default=5000,
        ge=1,
        le=65535,
        description="port of the API that `lorikeet up` starts, and where docker compose publishes its own; else it is "
        "uvicorn's --port",
    )
    public_url: str | None = Field(default=None, description="the API's address as clients reach it")
    default_model: str = Field(default="lorikeet-tiny", description="base model of a request that names none")
    url_lifetime_seconds: PositiveInt = Field(
        default=3600,
        le=7 * 24 * 60 * 60,  # a store knows no longer ones
        description="seconds a download or upload URL stays valid; a week, 604800, at most",
    )
    max_body_bytes: PositiveInt = Field(default=256 * 2**20, description="bytes of the largest request body")
    max_bodies_bytes: PositiveInt = Field(
        default=2**30,
        description="bytes of all request bodies that one API process reads at once, half of it for one tenant; "
        "the first mebibyte of each is counted apart, up to a quarter as much",
    )
    min_body_bytes_per_second: PositiveInt = Field(
        default=8192, description="bytes a second at which a request body must come"
    )
    body_seconds: PositiveFloat = Field(
        default=30.0, description="seconds for which it may be slower, or silent, before its request ends with 408"
    )
    upload_threads: PositiveInt = Field(
        default=8,
        description="uploads that one API process checks or stores at once, and as many pictures that jobs begin with",
    )
    upload_threads_of_one: PositiveInt = Field(default=4, description="of either for one tenant")
    max_json_bytes: PositiveInt = Field(
        default=8 * 2**20, description="bytes of the largest JSON body without a picture"
    )
    max_picture_json_bytes: PositiveInt = Field(
        default=34 * 2**20, description="bytes of the largest JSON body that may hold a picture, in base64"
    )
    max_requests_per_minute: PositiveFloat = Field(
        default=6000.0, description="requests a minute of one API key at one API process; inf for no limit"
    )
    max_queued_jobs: PositiveFloat = Field(
        default=10_000.0, description="jobs one tenant may have waiting for the workers of a kind; inf for no limit"
    )
    max_queued_jobs_of_all: PositiveFloat = Field(
        default=100_000.0, description="jobs all tenants together may have waiting; inf for no limit"
    )
    max_queued_seconds: PositiveFloat = Field(
        default=3600.0,
        description="seconds of estimated work one tenant may have waiting for the workers of a kind; inf for no limit",
    )
    max_gpu_seconds_per_day: PositiveFloat = Field(
        default=inf,
        description="seconds that one tenant's jobs may run for within 24 hours, each in full where several share a "
        "device; inf for no limit",
    )
    max_pixels: PositiveInt = Field(default=2048 * 2048, description="pixels of the largest image")
    model_sources: str = Field(
        default="",
        description="S3 folders (s3://…) that tenants may take base models from as from models/ in S3_BUCKET, and "
        "repositories of the hub (owner/name, or owner for all) that they may with HF_TOKEN; comma-separated",
    )
    feedback_token_days: PositiveInt = Field(
        default=30, description="days for which an image may be rated by its token, without a key"
    )
    drain_seconds: NonNegativeFloat = Field(
        default=0.0,
        description="seconds for which an API that was asked to end still serves, while /readyz says that it ends",
    )
    retention_days: PositiveInt = Field(default=30, description="days a finished job and its images are kept")
    training_retention_days: PositiveInt | None = Field(
        default=None,
        description="days a training is kept that failed or whose adapter was deleted; empty means RETENTION_DAYS",
    )
    orphan_days: PositiveInt = Field(
        default=2, description="days after which a file in the bucket that nothing refers to is removed"
    )

    # The learning loop.
    update_policy: Annotated[UpdatePolicy, NoDecode] = Field(
        default_factory=UpdatePolicy,
        description="policy where a tenant has put none, as JSON; fields left out keep their defaults",
    )

    # The job's life.
    lease_seconds: PositiveFloat = Field(default=30.0, description="seconds a claim lives without a heartbeat")
    stall_seconds: PositiveFloat = Field(
        default=900.0, description="seconds without progress after which a running job is taken back"
    )
    sweep_seconds: PositiveFloat = Field(default=2.0, description="seconds between two rounds of upkeep")
    ring_seconds: PositiveFloat = Field(default=15.0, description="seconds before a doorbell is rung again")
    poll_seconds: PositiveFloat = Field(default=5.0, description="seconds an idle worker waits before it polls")

    # Webhooks.
    webhook_slots: PositiveInt = Field(default=16, description="webhooks that one upkeep process posts at once")
    webhook_private: bool = Field(
        default=False,
        description="whether webhooks may go to http:// and to private addresses: for development, never in production",
    )

    # The workers.
    data_dir: Path = Field(default=Path("data"), description="folder of everything kept on this machine")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="device of the engine")
    torch_threads: PositiveInt = Field(default=1, description="CPU threads of one worker's torch")
    generation_slots: PositiveInt = Field(default=8, description="jobs one generation worker holds at once")
    affinity_seconds: NonNegativeFloat = Field(
        default=10.0,
        description="seconds for which jobs of models that a worker holds may go before the first in line; 0 for never",
    )
    batch_rows: PositiveInt = Field(default=16, description="rows of a batch at most; a guided image takes two")
    checkpoint_seconds: PositiveFloat = Field(default=60.0, description="seconds between training checkpoints")
    max_model_bytes: PositiveInt = Field(
        default=64 * 2**30, description="bytes of the largest base model that is fetched from S3 or a hub"
    )
    model_cache_bytes: PositiveInt = Field(
        default=256 * 2**30, description="bytes of fetched base models kept on disk; not less than MAX_MODEL_BYTES"
    )
    adapter_cache_bytes: PositiveInt = Field(default=2 * 2**30, description="bytes of adapter files kept on disk")
    host_adapter_bytes: PositiveInt = Field(default=2**30, description="bytes of adapters kept in memory")
    device_adapter_bytes: PositiveInt = Field(default=2**30, description="bytes of adapters kept on the device")
    hf_token: SecretStr | None = Field(
        default=None,
        description="token for gated repositories on the Hugging Face hub: for shared base models and MODEL_SOURCES",
    )
    clip_score_path: Path | None = Field(default=None, description="folder of a CLIP model that judges fidelity")
    pick_score_path: Path | None = Field(default=None, description="folder of PickScore, which judges pictures")
    hps_v2_path: Path | None = Field(
        default=None, description="folder of HPS v2 as a CLIP model of transformers, which judges pictures"
    )

    # What is said.
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least log level shown")
    log_format: Literal["json", "console"] = Field(default="json", description="form of the log lines")

    @field_validator("update_policy", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        return from_json(value) if isinstance(value, str) else value

    @property
    def limits(self) -> Limits:
        """What a tenant may use that the operator gave no limits of its own."""
        return Limits(
            requests_per_minute=self.max_requests_per_minute,
            queued_jobs=self.max_queued_jobs,
            queued_seconds=self.max_queued_seconds,
            gpu_seconds_per_day=self.max_gpu_seconds_per_day,
            queued_jobs_of_all=self.max_queued_jobs_of_all,
        )

    @property
    def quota(self) -> Limits:
        """What holds of `limits` for what nobody asked for just now: it waits for no room in a line, but counts."""
        return Limits(gpu_seconds_per_day=self.max_gpu_seconds_per_day)

    @property
    def retention(self) -> Retention:
        """For how long finished jobs are kept."""
        days = self.retention_days
        return Retention(job_days=days, training_days=self.training_retention_days or days)

    @property
    def model_dir(self) -> Path:
        """Folder of base models that the operator put there, which tenants may name as sources."""
        return self.data_dir / "models"

    @property
    def model_cache_dir(self) -> Path:
        """Folder of base models fetched from S3 or a hub, whoever's they are; no source of a tenant's may name it."""
        return self.cache_dir / "model"

    @property
    def model_places(self) -> tuple[str, ...]:
        """How the S3 addresses begin that tenants may take base models from; each ends in a slash."""
        others = (place for place in self._named_places if place.startswith("s3://"))
        return (f"s3://{self.s3_bucket}/models/", *others)

    @property
    def hub_places(self) -> tuple[str, ...]:
        """How the hub's names begin of what is fetched with HF_TOKEN for every tenant; each ends in a slash."""
        return tuple(place for place in self._named_places if not place.startswith("s3://"))

    @property
    def _named_places(self) -> tuple[str, ...]:
        places = (place.strip().removesuffix("/") for place in self.model_sources.split(","))
        return tuple(f"{place}/" for place in places if place)

    @property
    def scorer_paths(self) -> dict[str, Path]:
        """Folders of the judges of pictures that are configured, by the name of the judge."""
        known = {"clip_score": self.clip_score_path, "pick_score": self.pick_score_path, "hps_v2": self.hps_v2_path}
        return {name: path for name, path in known.items() if path is not None}

    @property
    def cache_dir(self) -> Path:
        """Folder of files that can be fetched again."""
        return self.data_dir / "cache"


def load_settings() -> Settings:
    """Read the environment and `.env`.

    Raises:
        pydantic.ValidationError: a setting is missing or out of range; the message names it.
    """
    return Settings()
