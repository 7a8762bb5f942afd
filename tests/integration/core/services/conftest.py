"""The fixtures of the learning bench."""

from collections.abc import Callable
from typing import Any

import pytest

from core.infra.database import Database
from core.infra.settings import Settings
from core.infra.task_queue import TaskQueue
from tests.learning_bench import LearningBench


@pytest.fixture
def make(database: Database, queue: TaskQueue, settings: Settings) -> Callable[..., LearningBench]:
    def made(**policy: Any) -> LearningBench:
        return LearningBench(database, queue, settings, **policy)

    return made


@pytest.fixture
def bench(make: Callable[..., LearningBench]) -> LearningBench:
    return make()
