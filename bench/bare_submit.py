"""What `bench.submit` compares with: the shortest honest FastAPI + Celery endpoint, with nothing durable in it."""

import os
from typing import Any

from celery import Celery
from fastapi import FastAPI

from core.domain.generation import GenerationSpec


def create_app() -> FastAPI:
    """One route that checks the same specification and hands it to `.delay`."""
    queue = Celery("bare", broker=os.environ["REDIS_URL"])

    @queue.task(ignore_result=True)
    def generate(request: dict[str, Any]) -> None:
        """Nobody works here."""

    app = FastAPI()

    @app.post("/api/generate", status_code=202)
    def submit(spec: GenerationSpec) -> dict[str, str]:
        return {"id": generate.delay(spec.model_dump(mode="json")).id}

    return app
