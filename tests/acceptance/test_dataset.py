"""Datasets over HTTP: each way of uploading gives the same dataset."""

import io
import zipfile

import httpx2 as httpx
import numpy as np

from cli.client import Picture
from cli.system import System
from tests.acceptance.http import call, png
from tiny import world

NUMBER = 6


def pictures() -> list[Picture]:
    rng = np.random.default_rng(3)
    shapes = list(world.Shape)
    captions = [world.complete(world.Caption(shapes[n % len(shapes)]), rng) for n in range(NUMBER)]
    return [Picture(f"{n}.png", png(world.draw(each, rng)), each.text) for n, each in enumerate(captions)]


def test_a_form_a_zip_and_single_uploads_make_the_same_dataset(stack: System) -> None:
    given = pictures()
    by_form = stack.client.create_dataset("form", given)

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for picture in given:
            archive.writestr(picture.name, picture.content)
            archive.writestr(picture.name.replace(".png", ".txt"), picture.caption)
    headers = {"Content-Type": "application/zip"}
    by_zip = call(stack, "POST", "/api/datasets?name=zip", content=packed.getvalue(), headers=headers).json()

    images = [{"file_name": picture.name, "caption": picture.caption} for picture in given]
    opened = call(stack, "POST", "/api/datasets", json={"name": "uploads", "images": images}).json()
    for upload, picture in zip(opened["uploads"], given, strict=True):
        answer = httpx.put(upload["url"], content=picture.content, trust_env=False)
        assert answer.status_code == httpx.codes.NO_CONTENT, answer.text
    by_upload = call(stack, "POST", opened["urls"]["complete"]).json()

    assert by_form["status"] == by_zip["status"] == by_upload["status"] == "ready"
    assert by_form["digest"] == by_zip["digest"] == by_upload["digest"]
    assert [image["caption"] for image in by_zip["images"]] == [picture.caption for picture in given]
    listed = {each["id"]: each["num_images"] for each in call(stack, "GET", "/api/datasets").json()["items"]}
    assert [listed[each["id"]] for each in (by_form, by_zip, by_upload)] == [NUMBER] * 3
    for each in (by_form, by_zip, by_upload):
        assert call(stack, "DELETE", f"/api/datasets/{each['id']}").status_code == 204
        assert call(stack, "GET", f"/api/datasets/{each['id']}").status_code == 404
