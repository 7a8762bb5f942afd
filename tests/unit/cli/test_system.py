from cli.system import _programs
from core.infra.settings import Settings


def test_workers_get_the_time_to_drain_that_the_docs_promise(settings: Settings) -> None:
    patience = {name: program.patience_seconds for name, program in _programs(settings, {}).items()}
    assert (patience["worker-generation"], patience["worker-training"]) == (30, 30)


def test_the_api_gets_the_time_to_drain_that_it_is_told_to_take(settings: Settings) -> None:
    slow = settings.model_copy(update={"drain_seconds": 20.0})
    patience = {one.drain_seconds: _programs(one, {})["api"].patience_seconds for one in (settings, slow)}
    assert patience == {0.0: 1.5, 20.0: 21.5}
