"""When feedback becomes an update, and how the new adapter is tried: data, editable, explained."""

from typing import Annotated

from pydantic import Field

from core.domain.evaluation import Gates
from core.domain.preference import PreferenceRecipe
from core.domain.value import Bool, Float, Int, Seed, Share, Specification, Text


class SelectionPolicy(Specification):
    """Which feedback trains, and how much each user's counts."""

    held_out_share: Share = Field(default=0.1, description="of users and, on top, of prompts that are held out")
    max_per_user: Annotated[Int, Field(ge=1)] = Field(default=20, description="opinions of one user in a run")
    max_user_share: Annotated[Float, Field(gt=0, le=1)] = Field(
        default=0.05, description="of a run's opinions that one user may give"
    )
    burst_count: Annotated[Int, Field(ge=2)] = Field(
        default=60, description="opinions of one user within burst_seconds that put all of the burst in quarantine"
    )
    burst_seconds: Annotated[Float, Field(gt=0)] = 60.0
    duplicate_distance: Share = Field(default=0.02, description="pictures nearer than this are the same picture")
    min_overlap: Annotated[Int, Field(ge=1)] = Field(
        default=5, description="opinions shared with others before a rater's agreement is judged"
    )
    min_agreement: Share = Field(default=0.5, description="raters who agree with others this seldom are left out")


class RolloutPolicy(Specification):
    """How a candidate that passed the gates is tried on live requests."""

    canary_share: Share = Field(default=0.1, description="of requests that name no adapter; 0 promotes at once")
    false_alarm: Annotated[Float, Field(gt=0, lt=0.5)] = Field(
        default=0.05, description="chance of deciding wrongly however often the test is looked at"
    )
    max_days: Annotated[Float, Field(gt=0)] = Field(default=14.0, description="days after which it ends undecided")
    watch_days: Annotated[Float, Field(ge=0)] = Field(
        default=7.0, description="days for which a new champion is compared with its predecessor; 0 for not at all"
    )
    max_per_user: Annotated[Int, Field(ge=1)] = Field(
        default=10, description="live opinions of one user that the test counts"
    )
    max_failure_rise: Share = Field(default=0.05, description="in the share of jobs that fail")
    max_slowdown: Annotated[Float, Field(ge=1)] = Field(default=1.5, description="of a picture, as a factor")


class UpdatePolicy(Specification):
    """A tenant's policy for one base model. Times are in hours."""

    enabled: Bool = True
    min_new_labels: Annotated[Int, Field(ge=1)] = 200
    many_new_labels: Annotated[Int, Field(ge=1)] = Field(
        default=500, description="so many start an update without waiting for the oldest to age"
    )
    min_users: Annotated[Int, Field(ge=1)] = 10
    cooldown_hours: Annotated[Float, Field(ge=0)] = 24.0
    max_age_hours: Annotated[Float, Field(ge=0)] = Field(
        default=72.0, description="age of the oldest new label that starts an update"
    )
    alarm_like_rate: Share = Field(default=0.3, description="a like rate below this starts an update")
    alarm_min_thumbs: Annotated[Int, Field(ge=1)] = 50
    min_pairs: Annotated[Int, Field(ge=1)] = Field(default=20, description="fewer, and too few likes: no training")
    min_likes: Annotated[Int, Field(ge=1)] = 32
    approval_below: Annotated[Int, Field(ge=0)] = Field(
        default=200, description="opinions trained on, below which a person has to approve"
    )
    approval_hours: Annotated[Float, Field(gt=0)] = Field(
        default=72.0, description="a candidate that nobody approves in time is rejected"
    )
    forget_hours: Annotated[Float, Field(gt=0)] = Field(
        default=72.0, description="by when an update without withdrawn feedback has replaced the one with it"
    )
    adapter_name: Text | None = Field(default=None, description="defaults to the model's name with -learned")
    seed: Seed = 0
    recipe: PreferenceRecipe = PreferenceRecipe()
    selection: SelectionPolicy = SelectionPolicy()
    gates: Gates = Gates()
    rollout: RolloutPolicy = RolloutPolicy()
