"""A bench for the API: the application on the real servers, a tenant with its key, a base model that is ready."""

import json
import math
import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from api.runtime import Runtime
from core.domain.base_model import BaseModelSpec, ModelFacts, ModelFamily
from core.domain.generation import GenerationDefaults, SchedulerName
from core.domain.job import JobKind
from core.domain.outcome import Outcome, Output
from core.infra.settings import Settings
from core.services import api_key as api_keys
from core.services import model as models
from core.services import run as runs
from core.services.run import Claim
from core.services.tenant import create_tenant

MODEL = "lorikeet-tiny"
DEFAULTS = GenerationDefaults(
    width=64, height=64, steps=20, guidance_scale=3.0, scheduler=SchedulerName.DDIM, strength=0.75
)
_BLOCK = "unet.down_blocks.0.attentions.0.transformer_blocks.0"
MODULES: dict[str, tuple[int, ...]] = {
    "unet.conv_in": (32, 4, 3, 3),
    f"{_BLOCK}.attn1.to_q": (32, 32),
    f"{_BLOCK}.attn1.to_k": (32, 32),
    f"{_BLOCK}.attn1.to_v": (32, 32),
    f"{_BLOCK}.attn1.to_out.0": (32, 32),
    f"{_BLOCK}.attn2.to_k": (32, 48),
    "text_encoder.encoder.layers.0.self_attn.q_proj": (48, 48),
}


class Tenancy:
    """One tenant at the API: a client that sends its key, and the worker's side of its jobs."""

    def __init__(self, app_client: TestClient, runtime: Runtime, *, name: str) -> None:
        self.runtime = runtime
        with runtime.database.transaction() as session:
            tenant = create_tenant(session, name=name)
            self.id: UUID = tenant.id
            self.key = api_keys.create(session, tenant_id=tenant.id, name="test")
        self.http = app_client
        self.headers = {"Authorization": f"Bearer {self.key}"}

    def call(self, method: str, path: str, **content: Any) -> Any:
        """The response, whatever its status."""
        headers = self.headers | content.pop("headers", {})
        return self.http.request(method, path, headers=headers, **content)

    def get(self, path: str, **content: Any) -> Any:
        return self.call("GET", path, **content)

    def post(self, path: str, **content: Any) -> Any:
        return self.call("POST", path, **content)

    def generate(self, prompt: str = "a star", *, headers: Mapping[str, str] | None = None, **fields: Any) -> Any:
        return self.post("/api/generate", json={"prompt": prompt} | fields, headers=dict(headers or {}))

    def register_model(
        self,
        name: str = MODEL,
        *,
        shared: bool = True,
        family: ModelFamily = ModelFamily.SD1,
        modules: Mapping[str, tuple[int, ...]] = MODULES,
    ) -> UUID:
        """A base model that is ready, as a worker's check leaves it."""
        spec = BaseModelSpec(name=name, source=f"/models/{name}")
        with self.runtime.database.transaction() as session:
            accepted = models.register(session, spec, tenant_id=self.id, shared=shared, queue=self.runtime.queue)
            model_id = accepted.job.base_model_id
        facts = ModelFacts(family=family, defaults=DEFAULTS, modules=dict(modules))
        self.finish(self.claim(JobKind.REGISTRATION), Outcome(model_facts=facts))
        return model_id

    def claim(self, kind: JobKind = JobKind.GENERATION) -> Claim:
        """Take the next job, as a worker does."""
        with self.runtime.database.transaction() as session:
            claim = runs.claim_next(session, kinds=[kind], worker_id="worker", lease_seconds=30)
        assert claim is not None
        return claim

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        with self.runtime.database.transaction() as session:
            runs.finish(session, claim, outcome)

    def draw(self, content: bytes = b"a picture", *, kind: str = "image") -> str:
        """Submit a generation and end it with one stored image, whose id is returned."""
        [output] = self.draw_several(content, kind=kind)
        return str(output["id"])

    def draw_several(
        self,
        content: bytes = b"a picture",
        *,
        count: int = 1,
        kind: str = "image",
        shown: Mapping[str, Any] | None = None,
        **request: Any,
    ) -> list[dict[str, Any]]:
        """Submit a generation and end it with `count` stored images, each another; they are returned as outputs.

        `request` is of the generation, `shown` is of its outputs.
        """
        assert self.generate(**request).status_code == 202
        claim = self.claim()
        outputs = []
        for index in range(count):
            key = f"job/{claim.job_id}/{claim.claim_epoch}/output/{index}.png"
            self.runtime.store.put(key, content, content_type="image/png")
            values: dict[str, Any] = {"type": kind, "object_key": key, "content_type": "image/png"}
            values |= {"size_bytes": len(content), "sha256": sha256(key.encode()).hexdigest()}
            values |= {"width": 64, "height": 64, "seed": 1 + index}
            outputs.append(Output(**(values | dict(shown or {}))))
        self.finish(claim, Outcome(outputs=outputs))
        return list(self.get(f"/api/jobs/{claim.job_id}").json()["outputs"])


@contextmanager
def open_app(settings: Settings) -> Iterator[TestClient]:
    """A client of a running application."""
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with open_app(settings) as client:
        yield client


@pytest.fixture
def runtime(client: TestClient) -> Runtime:
    runtime: Runtime = client.app.state.runtime  # type: ignore[attr-defined]
    return runtime


@pytest.fixture
def tenant(client: TestClient, runtime: Runtime) -> Tenancy:
    return Tenancy(client, runtime, name=f"tenant-{uuid4().hex[:8]}")


@pytest.fixture
def stranger(client: TestClient, runtime: Runtime) -> Tenancy:
    return Tenancy(client, runtime, name=f"stranger-{uuid4().hex[:8]}")


@pytest.fixture
def hidden(settings: Settings) -> Iterator[Tenancy]:
    """A tenant of an API whose object store clients do not reach."""
    with open_app(settings.model_copy(update={"s3_public_endpoint_url": None})) as client:
        runtime: Runtime = client.app.state.runtime  # type: ignore[attr-defined]
        yield Tenancy(client, runtime, name="hidden")


@pytest.fixture
def model_id(tenant: Tenancy) -> UUID:
    return tenant.register_model()


Tensors = Mapping[str, tuple[str, Sequence[int], bytes]]


def encode(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file: name → dtype, shape, bytes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    body = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + body


def floats(*shape: int, seed: int = 0) -> tuple[str, Sequence[int], bytes]:
    """A small random F32 tensor."""
    draw = random.Random(seed)
    count = math.prod(shape)
    return "F32", shape, struct.pack(f"<{count}f", *(draw.gauss(0, 0.02) for _ in range(count)))


def lora(modules: Mapping[str, tuple[int, ...]] | None = None, *, rank: int = 4) -> Tensors:
    """A LoRA of diffusers' names for some of MODULES."""
    chosen = modules or {name: shape for name, shape in MODULES.items() if "attn1" in name}
    tensors = {}
    for seed, (name, (outputs, inputs, *kernel)) in enumerate(chosen.items()):
        tensors[f"{name}.lora_A.weight"] = floats(rank, inputs, *kernel, seed=seed)
        tensors[f"{name}.lora_B.weight"] = floats(outputs, rank, *[1 for _ in kernel], seed=seed + 100)
    return tensors
