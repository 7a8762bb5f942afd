"""What the API counted, and whether hostile requests got far enough for that to say anything."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import httpx2 as httpx
from prometheus_client.parser import text_string_to_metric_families

Operation = tuple[str, str]
"""A method and a path of the OpenAPI document."""

_MANY = 500_000
_MOST_REFUSED = 1 / 3
_AT_THE_DOOR = {401, 405}
_METHODS = {"get", "put", "post", "delete", "patch"}


@dataclass(frozen=True)
class Tally:
    """How often the API gave an operation which status."""

    answers: Mapping[tuple[Operation, int], int]

    @property
    def requests(self) -> int:
        return sum(self.answers.values())

    @property
    def statuses(self) -> dict[int, int]:
        """How often which, in order."""
        found: Counter[int] = Counter()
        for (_, status), count in self.answers.items():
            found[status] += count
        return dict(sorted(found.items()))

    @property
    def own_errors(self) -> int:
        """Answers that say that the fault is here; 0 is a request that broke off."""
        return sum(count for status, count in self.statuses.items() if status >= 500 or status == 0)

    def statuses_of(self, operation: Operation) -> list[int]:
        """Which ones it was answered with."""
        return sorted(status for (each, status) in self.answers if each == operation)

    def is_served(self, operation: Operation) -> bool:
        """Whether some request for it was right."""
        return any(200 <= status < 400 for status in self.statuses_of(operation))

    def lines(self, operations: Sequence[Operation]) -> Iterator[str]:
        """How far the requests got, with what was best of those that were never right."""
        refused = [each for each in operations if not self.is_served(each)]
        yield f"{len(operations) - len(refused)} of {len(operations)} operations did what they were asked for"
        for method, path in refused:
            yield f"- {method} {path}: {', '.join(map(str, self.statuses_of((method, path))))}"

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(Counter(self.answers) + Counter(other.answers))

    def __sub__(self, earlier: "Tally") -> "Tally":
        return Tally(Counter(self.answers) - Counter(earlier.answers))


def lacking(tally: Tally, operations: Sequence[Operation]) -> Iterator[str]:
    """What so many requests did not reach, and should have."""
    unheard = [each for each in operations if not set(tally.statuses_of(each)) - _AT_THE_DOOR]
    if unheard:
        yield f"Nobody got past the door of {_named(unheard)}."
    refused = [each for each in operations if not tally.is_served(each)]
    if len(refused) > (0 if tally.requests >= _MANY else _MOST_REFUSED * len(operations)):
        yield f"Too few requests were right: none was for {_named(refused)}."


def _named(operations: Sequence[Operation]) -> str:
    return ", ".join(" ".join(each) for each in operations)


def take(url: str) -> Tally:
    """Ask an API process."""
    answers: Counter[tuple[Operation, int]] = Counter()
    for family in text_string_to_metric_families(_get(url, "/metrics").text):
        for sample in family.samples:
            if sample.name == "lorikeet_http_requests_total":
                path = re.sub(r":\w+}", "}", sample.labels["route"])
                answers[(sample.labels["method"], path), int(sample.labels["status"])] += int(sample.value)
    return Tally(answers)


def documented(url: str) -> list[Operation]:
    """Every operation of the OpenAPI document."""
    paths = _get(url, "/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, item in paths.items() for method in item if method in _METHODS]


def _get(url: str, path: str) -> httpx.Response:
    return httpx.get(url + path, trust_env=False, timeout=30).raise_for_status()
