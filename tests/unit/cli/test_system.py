from cli.system import _programs
from core.infra.settings import Settings


def test_workers_get_the_time_to_drain_that_the_docs_promise(settings: Settings) -> None:
    patience = {name: program.patience_seconds for name, program in _programs(settings, {}).items()}
    assert (patience["worker-generation"], patience["worker-training"]) == (30, 30)
