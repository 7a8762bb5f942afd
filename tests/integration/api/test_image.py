"""Images and files over HTTP."""

import time
import urllib.error
import urllib.request
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from core.domain.signature import Signer
from tests.api_bench import Tenancy

CONTENT = b"a picture" * 100_000


def test_an_image_says_where_it_comes_from(tenant: Tenancy) -> None:
    tenant.register_model()
    image = tenant.get(f"/api/images/{tenant.draw()}").json()
    assert (image["type"], image["width"], image["seed"], image["adapters"]) == ("image", 64, 1, [])
    assert tenant.get(f"/api/jobs/{image['job_id']}").json()["outputs"][0]["id"] == image["id"]


def test_a_public_store_gives_the_file_itself(tenant: Tenancy) -> None:
    tenant.register_model()
    url = tenant.get(f"/api/images/{tenant.draw(CONTENT)}").json()["url"]
    assert url.startswith(str(tenant.runtime.settings.s3_public_endpoint_url))
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == CONTENT
        assert answer.headers["Content-Type"] == "image/png"


FILES = {"image/png": ".png", "image/webp": ".webp", "text/markdown": ".md", "application/octet-stream": ".safetensors"}


@pytest.mark.parametrize("content_type", FILES)
@pytest.mark.parametrize("reach", ["store", "api"])
def test_a_file_is_saved_and_never_shown_as_a_page(
    tenant: Tenancy, hidden: Tenancy, reach: str, content_type: str
) -> None:
    owner = tenant if reach == "store" else hidden
    owner.register_model()
    [output] = owner.draw_several(b"<script>alert(1)</script>", shown={"content_type": content_type})
    name = f'attachment; filename="{output["id"]}{FILES[content_type]}"'
    if reach == "store":
        with urllib.request.urlopen(output["url"]) as answer:
            assert (answer.headers["Content-Type"], answer.headers["Content-Disposition"]) == (content_type, name)
        return
    answer = owner.http.get(output["url"])
    assert answer.headers["Content-Type"].partition(";")[0] == content_type
    assert answer.headers["Content-Disposition"] == name
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


def test_a_signed_url_lives_as_long_as_the_settings_say(tenant: Tenancy, hidden: Tenancy) -> None:
    for owner in (tenant, hidden):
        owner.register_model()
        image = owner.get(f"/api/images/{owner.draw()}").json()
        query = parse_qs(urlsplit(image["url"]).query)
        lifetime = owner.runtime.settings.url_lifetime_seconds
        if owner is tenant:
            assert query["X-Amz-Expires"] == [str(lifetime)]
        else:
            [expires] = query["expires"]
            assert datetime.fromisoformat(image["url_expires_at"]).timestamp() == int(expires)
            assert int(expires) - time.time() <= lifetime


def test_an_expired_url_of_the_store_is_refused(tenant: Tenancy) -> None:
    tenant.register_model()
    [output] = tenant.draw_several(CONTENT)
    [key] = [key for key, _ in tenant.runtime.store.list("job/")]
    url = tenant.runtime.store.presign_get(key, content_type="image/png", file_name="a.png", lifetime_seconds=1)
    while True:  # until it has expired
        try:
            urllib.request.urlopen(url).close()
        except urllib.error.HTTPError as error:
            assert error.code in (400, 403)  # AWS says 403
            assert b"AccessDenied" in error.read()
            break
        time.sleep(0.2)
    urllib.request.urlopen(output["url"]).close()


def test_the_api_gives_files_of_a_hidden_store(hidden: Tenancy) -> None:
    hidden.register_model()
    image = hidden.get(f"/api/images/{hidden.draw(CONTENT)}").json()
    answer = hidden.http.get(image["url"])
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["ETag"] == f'"{image["sha256"]}"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert hidden.get(f"/api/images/{image['id']}/content").content == CONTENT


def test_a_signed_url_opens_nothing_else_and_not_for_ever(hidden: Tenancy) -> None:
    hidden.register_model()
    image_id, other = hidden.draw(), hidden.draw()
    url = hidden.get(f"/api/images/{image_id}").json()["url"]
    path, _, query = url.removeprefix("http://testserver").partition("?")
    tampered = [
        f"/api/images/{other}/content?{query}",
        f"{path}?{query}0",
        f"{path}?{query.replace('expires=', 'expires=1')}",
        f"{path}?{query.partition('&')[2]}",
        f"{path}?{query.partition('&')[0]}",
        path,
    ]
    for each in tampered:
        assert hidden.http.get(each).status_code == 401, each
    past = hidden.runtime.signer.query(path, method="GET", expires=1)
    assert "expired" in hidden.http.get(f"{path}?{past}").text
    foreign = Signer(b"x" * 32).query(path, method="GET", expires=2**40)
    assert hidden.http.get(f"{path}?{foreign}").status_code == 401
    for strange in ("expires=-1&signature=x", "expires=x&signature=x", "expires=9999999999999999999&signature=x"):
        assert hidden.http.get(f"{path}?{strange}").status_code in (401, 422)


@pytest.mark.parametrize("lost", ["object", "row"])
def test_what_is_gone_is_gone(hidden: Tenancy, lost: str) -> None:
    hidden.register_model()
    image_id = hidden.draw()
    image = hidden.get(f"/api/images/{image_id}").json()
    if lost == "object":
        for key, _ in list(hidden.runtime.store.list(f"job/{image['job_id']}/")):
            hidden.runtime.store.delete(key)
    url = image["url"] if lost == "object" else image["url"].replace(image_id, "6f1f7c3e-0000-4000-8000-000000000000")
    assert hidden.http.get(url).status_code == (404 if lost == "object" else 401)


def test_other_outputs_are_no_images(tenant: Tenancy) -> None:
    tenant.register_model()
    adapter = tenant.draw(kind="adapter")
    assert tenant.get(f"/api/images/{adapter}").status_code == 404
    assert tenant.get(f"/api/artifacts/{adapter}/content").status_code == 200
