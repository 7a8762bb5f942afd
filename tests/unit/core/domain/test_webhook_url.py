"""What a webhook's URL may look like, and how its host could be spelt to lead elsewhere."""

import pytest

from core.domain.errors import InvalidInput
from core.domain.webhook_url import WebhookUrl, read_webhook_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com/a/b?c=d", ("https", "example.com", 443, "/a/b?c=d")),
        ("HTTPS://Hooks.Example.COM:8443", ("https", "hooks.example.com", 8443, "/")),
        ("https://example.com?token=x", ("https", "example.com", 443, "/?token=x")),
        ("https://xn--bcher-kva.example.com/%C3%BC", ("https", "xn--bcher-kva.example.com", 443, "/%C3%BC")),
        ("https://1.1.1.1/", ("https", "1.1.1.1", 443, "/")),
        ("https://[2606:4700:0::0001]:8443/", ("https", "2606:4700::1", 8443, "/")),
        ("https://[64:ff9b::1.1.1.1]/", ("https", "64:ff9b::101:101", 443, "/")),
        ("https://1.example.com/", ("https", "1.example.com", 443, "/")),
        ("https://example.com/@at/:colon", ("https", "example.com", 443, "/@at/:colon")),
    ],
)
def test_what_may_be_posted_to(url: str, expected: tuple[str, str, int, str]) -> None:
    assert read_webhook_url(url, private=False) == WebhookUrl(*expected)


ODD = [
    *("http://example.com/", "ftp://example.com/", "file:///etc/passwd", "//example.com/", "example.com", "https:/a.b"),
    *("", " https://example.com/", "https://example.com/ ", "https://example.com/a b", "https://example.com/\n"),
    *("https://user@example.com/", "https://user:pw@example.com/", "https://example.com/#top", "https://"),
    *("https://example.com:80/", "https://example.com:22/", "https://example.com:1023/", "https://example.com:0/"),
    *("https://example.com:65536/", "https://example.com:-1/", "https://example.com:/", "https://example.com:x/"),
    *(
        "https://exämple.com/",
        "https://example。com/",
        "https://\uff11.1.1.1/",
        "https://①.com/",
        "https://example.com/ü",
    ),
    *("https://example.com\\@127.0.0.1/", "https://127.0.0.1\\.example.com/", "https://example.com\x00.evil.com/"),
    *("https://example.com./", "https://localhost./", "https://.example.com/", "https://a..b/", "https://-a.com/"),
    *("https://a-.com/", f"https://{'a' * 64}.com/", f"https://{'a.' * 126}com/", f"https://a.com/{'a' * 2000}"),
    *("https://%6c%6f%63%61%6c%68%6f%73%74/", "https://127.0.0.1%00.example.com/", "https://%31%32%37.0.0.1/"),
    *("https://[::1", "https://::1/", "https://[::1]x/", "https://[fe80::1%25eth0]/", "https://[v1.a]/", "https://[]/"),
]
OWN = [
    *("https://localhost/", "https://LOCALHOST:8080/", "https://a.localhost/", "https://printer.local/", "https://db/"),
    *("https://metadata.google.internal/", "https://postgres:5432/", "https://a.home.arpa/", "https://nas.lan/"),
    *("https://127.0.0.1/", "https://10.1.2.3/", "https://169.254.169.254/latest/meta-data/", "https://0.0.0.0/"),
    *(
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[fe80::1]/",
    ),
    *("https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://[::127.0.0.1]/", "https://[fd00::1]/"),
    *("https://224.0.0.1/", "https://255.255.255.255/", "https://[ff02::1]/", "https://100.64.0.1/"),
]
NUMBERS = [
    *("https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/"),
    *("https://017700000001/", "https://127.0.0.1./", "https://0/", "https://1.1.1.1./", "https://01.1.1.1/"),
    *(
        "https://1.1.1/",
        "https://1.1.1.256/",
        "https://1.1.1.1.1/",
        "https://example.0x7f/",
        "https://0x/",
        "https://a.1/",
    ),
]


@pytest.mark.parametrize("url", ODD + OWN + NUMBERS)
def test_what_may_not(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_webhook_url(url, private=False)
    assert [problem.field for problem in caught.value.problems] == ["webhook"]


@pytest.mark.parametrize("url", [*OWN, "http://localhost:5000/x", "http://stable_diffusion:80/", "http://[::1]:9/"])
def test_for_development_it_may_go_anywhere(url: str) -> None:
    assert read_webhook_url(url, private=True).port > 0


@pytest.mark.parametrize(
    "url", [each for each in ODD + NUMBERS if not each.startswith(("http://example", "https://example.com:"))]
)
def test_but_never_with_a_url_that_readers_differ_on(url: str) -> None:
    with pytest.raises(InvalidInput):
        read_webhook_url(url, private=True)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://example.com/", "example.com"),
        ("https://example.com:8443/", "example.com:8443"),
        ("https://[2606:4700::1]:8443/", "[2606:4700::1]:8443"),
        ("https://[2606:4700::1]/", "[2606:4700::1]"),
    ],
)
def test_the_host_header_is_the_urls(url: str, authority: str) -> None:
    assert read_webhook_url(url, private=False).authority == authority
