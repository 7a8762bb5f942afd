"""POST /api/generate against the real servers, up to the job's row."""

import pytest

from tests.api_bench import Tenancy

pytestmark = pytest.mark.usefixtures("model_id")


def test_a_request_becomes_a_job_with_a_complete_plan(tenant: Tenancy) -> None:
    answer = tenant.generate("a red star", seed=7, num_images=2)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == job["urls"]["self"]
    assert (job["kind"], job["status"], job["queue_position"]) == ("generation", "queued", 0)
    assert tenant.claim().plan == {
        "prompt": "a red star",
        "negative_prompt": "",
        "model": "lorikeet-tiny",
        "width": 64,
        "height": 64,
        "steps": 20,
        "guidance_scale": 3.0,
        "seed": 7,
        "num_images": 2,
        "scheduler": "ddim",
        "adapters": [],
        "init_image_key": None,
        "strength": None,
        "output_format": "png",
    }
