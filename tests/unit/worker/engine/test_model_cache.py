import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.domain.errors import JobStopped, ModelUnusable, Unavailable
from worker.engine.model_cache import Fetching, ModelCache


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "model"


@pytest.fixture
def cache(root: Path) -> ModelCache:
    return ModelCache(root, most_bytes=100)


def of(size: int) -> Callable[[Fetching], None]:
    def fetch(fetching: Fetching) -> None:
        fetching.reserve(size)
        (fetching.part / "weights").write_bytes(bytes(size))

    return fetch


def never(_: Fetching) -> None:
    raise AssertionError


def get(cache: ModelCache, name: str, size: int) -> None:
    with cache.hold(name, of(size)) as folder:
        assert (folder / "weights").stat().st_size == size
    used = sum(1 for _ in folder.parent.iterdir())
    os.utime(folder, (used, used))  # in the order of their use, whatever the clock's steps


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


def test_what_was_used_least_lately_goes_first(cache: ModelCache, root: Path) -> None:
    for name in ("a", "b", "c"):
        get(cache, name, 30)
    with cache.hold("a", never):
        pass
    get(cache, "d", 50)
    assert names(root) == {"a", "d"}
    assert {path.name for path in root.glob("*.lock")} == {"a.lock", "d.lock", "room.lock"}


def test_what_is_held_stays(cache: ModelCache, root: Path) -> None:
    get(cache, "a", 40)
    get(cache, "b", 40)
    with cache.hold("a", never), ThreadPoolExecutor(1) as pool:
        pool.submit(get, cache, "c", 60).result()
        assert names(root) == {"a", "c"}
        with cache.hold("c", never), pytest.raises(Unavailable):
            get(cache, "d", 1)
    assert names(root) == {"a", "c", "d.part"}, "another run goes on with it"


def test_what_is_being_fetched_counts_with_all_that_it_will_have(cache: ModelCache, root: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(fetching: Fetching) -> None:
        fetching.reserve(90)
        begun.set()
        assert go_on.wait(60)

    def hold() -> None:
        with cache.hold("slow", slowly):
            pass

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(hold)
        assert begun.wait(60)
        with pytest.raises(Unavailable):
            get(cache, "a", 20)
        go_on.set()
        slow.result()
    get(cache, "a", 20)
    assert names(root) == {"a"}


def test_a_fetch_that_failed_leaves_nothing(cache: ModelCache, root: Path) -> None:
    def fail(fetching: Fetching) -> None:
        of(10)(fetching)
        raise ModelUnusable("of no use")

    with pytest.raises(ModelUnusable), cache.hold("a", fail):
        pass
    assert {path.name for path in root.iterdir()} == {"room.lock"}


def stop(fetching: Fetching) -> None:
    of(10)(fetching)
    raise JobStopped


def test_a_fetch_that_was_stopped_is_gone_on_with_for_a_day(cache: ModelCache, root: Path) -> None:
    for name in ("a", "b"):
        with pytest.raises(JobStopped), cache.hold(name, stop):
            pass
    long_ago = time.time() - 2 * 86400
    os.utime(root / "a.part", (long_ago, long_ago))
    cache.sweep()
    assert {path.name for path in root.iterdir()} == {"b.lock", "b.part", "room.lock"}


def test_what_a_stopped_fetch_left_gives_way(cache: ModelCache, root: Path) -> None:
    with pytest.raises(JobStopped), cache.hold("a", stop):
        pass
    get(cache, "b", 95)
    assert names(root) == {"b"}


def test_what_somebody_holds_is_not_forgotten(cache: ModelCache, root: Path) -> None:
    get(cache, "a", 1)
    with cache.hold("a", never):
        assert not cache.forget("a")
        assert names(root) == {"a"}
    assert cache.forget("a")
    assert cache.forget("what never was")
    assert [*root.iterdir()] == [root / "room.lock"]


def test_what_went_while_somebody_waited_is_fetched_again(cache: ModelCache, root: Path) -> None:
    """Its lock goes with it: who waited for that must not believe to have one."""
    begun, waits = threading.Event(), threading.Event()

    def fail(fetching: Fetching) -> None:
        begun.set()
        assert waits.wait(60)
        raise ModelUnusable("of no use")

    def try_first() -> None:
        with pytest.raises(ModelUnusable), cache.hold("a", fail):
            pass

    def wait_and_get() -> None:
        with cache.hold("a", of(7), heed=waits.set) as folder:
            assert not cache.forget("a")
            assert (folder / "weights").is_file()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(try_first)
        assert begun.wait(60)
        pool.submit(wait_and_get).result()
        first.result()


def test_many_at_once_stay_within_the_bounds(cache: ModelCache, root: Path) -> None:
    def use(number: int) -> None:
        with cache.hold(f"model-{number % 5}", of(40)) as folder:
            assert (folder / "weights").stat().st_size == 40

    def try_until_there_is_room(number: int) -> None:
        while True:
            try:
                use(number)
            except Unavailable:
                time.sleep(0.01)
            else:
                return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(try_until_there_is_room, range(40)))
    whole = [name for name in names(root) if not name.endswith(".part")]
    assert len(whole) <= 2
