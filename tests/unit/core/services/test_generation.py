import pytest

from core.domain.base_model import ModelFamily
from core.domain.generation import GenerationPlan, OutputFormat, SchedulerName
from core.services.generation import work_units


@pytest.mark.parametrize(
    ("family", "guidance_scale", "units"),
    [(ModelFamily.SD1, 7.5, 160.0), (ModelFamily.SD1, 1.0, 80.0), (ModelFamily.FLUX, 3.5, 80.0)],
)
def test_work_is_the_passes_of_the_denoiser(family: ModelFamily, guidance_scale: float, units: float) -> None:
    plan = GenerationPlan(
        prompt="a star",
        negative_prompt="",
        model="any",
        width=128,
        height=64,
        steps=20,
        guidance_scale=guidance_scale,
        seed=1,
        num_images=2,
        scheduler=SchedulerName.DDIM,
        output_format=OutputFormat.PNG,
    )
    assert work_units(plan, family) == units
