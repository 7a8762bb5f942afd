"""What a training showed at each step."""

from pydantic import BaseModel


class MetricView(BaseModel):
    """One optimizer step. `gradient_norm` is before clipping."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float


class MetricPage(BaseModel):
    """Steps in order. `next_after_step` is null where there are no more yet."""

    items: list[MetricView]
    next_after_step: int | None
