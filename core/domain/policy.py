"""When feedback becomes an update, and how the new adapter is tried: data, editable, explained."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from core.domain.evaluation import Gates
from core.domain.preference import PreferenceRecipe
from core.domain.value import Bool, Count, Float, Int, Name, Seed, Share, Span, Specification, Text


class SelectionPolicy(Specification):
    """Which feedback trains, and how much each user's counts."""

    held_out_share: Share = Field(default=0.1, description="of users and, on top, of prompts that are held out")
    max_per_user: Annotated[Count, Field(ge=1)] = Field(default=20, description="opinions of one user in a run")
    max_user_share: Annotated[Float, Field(gt=0, le=1)] = Field(
        default=0.05, description="of a run's opinions that one user may give"
    )
    burst_count: Annotated[Count, Field(ge=2)] = Field(
        default=60, description="opinions of one user within burst_seconds that put all of the burst in quarantine"
    )
    burst_seconds: Annotated[Span, Field(gt=0)] = Field(default=60.0, description="within which a burst lies")
    duplicate_distance: Share = Field(default=0.02, description="pictures nearer than this are the same picture")
    min_overlap: Annotated[Count, Field(ge=1)] = Field(
        default=5, description="opinions shared with others before a rater's agreement is judged"
    )
    min_agreement: Share = Field(default=0.5, description="raters who agree with others this seldom are left out")


class RolloutPolicy(Specification):
    """How a candidate that passed the gates is tried on live requests."""

    canary_share: Share = Field(default=0.1, description="of requests that name no adapter; 0 promotes at once")
    false_alarm: Annotated[Float, Field(gt=0, lt=0.5)] = Field(
        default=0.05, description="chance of deciding wrongly however often the test is looked at"
    )
    max_days: Annotated[Span, Field(gt=0)] = Field(default=14.0, description="days after which it ends undecided")
    watch_days: Span = Field(
        default=7.0, description="days for which a new champion is compared with its predecessor; 0 for not at all"
    )
    watch_share: Share = Field(
        default=0.3,
        description="of such requests that its predecessor takes part in; canary_share where a canary proved it before",
    )
    max_per_user: Annotated[Count, Field(ge=1)] = Field(
        default=3, description="live comparisons of one user that the test counts, all together as one voice"
    )
    max_like_fall: Share = Field(default=0.1, description="below the incumbent's recorded like rate, as a share of it")
    max_failure_rise: Share = Field(default=0.05, description="in the share of jobs that fail")
    max_slowdown: Annotated[Float, Field(ge=1, le=1e6)] = Field(default=1.5, description="of a picture, as a factor")


class UpdatePolicy(Specification):
    """A tenant's policy for one base model. Times are in hours."""

    enabled: Bool = Field(default=True, description="whether updates start by themselves")
    min_new_labels: Annotated[Count, Field(ge=1)] = Field(
        default=200, description="opinions that started no update yet, below which none starts"
    )
    many_new_labels: Annotated[Count, Field(ge=1)] = Field(
        default=500, description="so many start an update without waiting for the oldest to age"
    )
    min_users: Annotated[Count, Field(ge=1)] = Field(default=10, description="who gave the new labels")
    cooldown_hours: Span = Field(default=24.0, description="after an update has ended, in which none starts")
    max_age_hours: Span = Field(default=72.0, description="age of the oldest new label that starts an update")
    alarm_like_rate: Share = Field(default=0.3, description="a like rate below this starts an update")
    alarm_min_thumbs: Annotated[Count, Field(ge=1)] = Field(
        default=50, description="new thumbs that a like rate needs to alarm"
    )
    min_pairs: Annotated[Count, Field(ge=1)] = Field(
        default=20, description="of pictures; fewer, and too few likes: no training"
    )
    min_likes: Annotated[Count, Field(ge=1)] = Field(
        default=32, description="likes and dislikes; fewer, and too few pairs: no training"
    )
    approval_below: Count = Field(default=200, description="opinions trained on, below which a person has to approve")
    approval_hours: Annotated[Span, Field(gt=0)] = Field(
        default=72.0, description="a candidate that nobody approves in time is rejected"
    )
    forget_hours: Annotated[Span, Field(gt=0)] = Field(
        default=72.0, description="by when an update without withdrawn feedback has replaced the one with it"
    )
    adapter_name: Name | None = Field(default=None, description="defaults to the model's name with -learned")
    seed: Seed = Field(default=0, description="of the training and of the pictures that are judged")
    recipe: PreferenceRecipe = PreferenceRecipe()
    selection: SelectionPolicy = SelectionPolicy()
    gates: Gates = Gates()
    rollout: RolloutPolicy = RolloutPolicy()


class Standing(Specification):
    """How far it is to the next update. New labels are current opinions that no update was started by; no comments.

    `pairs` and `likes` count every current choice, and every current thumb and rating, before the rules of selection;
    None where they were not counted.
    """

    new_labels: Int
    users: Int = Field(description="who gave the new labels")
    oldest_age_hours: Float | None = Field(description="of the oldest new label")
    hours_since_last_update: Float | None = Field(description="since an update last ended; null before the first")
    like_rate: Share | None = Field(description="share of likes in the new thumbs")
    thumbs: Int = Field(description="new thumbs")
    pairs: Int | None = None
    likes: Int | None = None
    in_flight_update_id: UUID | None
    in_flight_since: datetime | None


class PolicyDecision(Specification):
    """Whether an update starts now. `because` says why it does, `waiting_for` everything that is missing."""

    due: Bool
    because: Text = ""
    waiting_for: tuple[Text, ...] = ()


def decide(policy: UpdatePolicy, standing: Standing, *, by_hand: bool = False) -> PolicyDecision:
    """Look at a policy. Asked by hand, an update waits for nothing but the one in flight and for enough to train on."""
    unmet = _in_flight(standing) + _too_little(policy, standing)
    because = "asked for by hand"
    if not by_hand:
        because = _occasion(policy, standing)
        unmet = _unmet(policy, standing) + unmet + ([] if because else [_no_occasion(policy, standing)])
    return PolicyDecision(due=False, waiting_for=tuple(unmet)) if unmet else PolicyDecision(due=True, because=because)


def enough(policy: UpdatePolicy, *, pairs: int, likes: int) -> bool:
    """Whether so many pairs, or so many likes and dislikes, are worth a training."""
    return pairs >= policy.min_pairs or likes >= policy.min_likes


def shortfall(policy: UpdatePolicy, *, pairs: int, likes: int) -> str:
    """How far they are from enough, in numbers."""
    return f"{pairs} of {policy.min_pairs} pairs and {likes} of {policy.min_likes} likes and dislikes"


def _in_flight(standing: Standing) -> list[str]:
    if standing.in_flight_update_id is None:
        return []
    since = standing.in_flight_since
    when = f" since {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if since else ""
    return [f"an update is in flight{when}"]


def _too_little(policy: UpdatePolicy, standing: Standing) -> list[str]:
    if standing.pairs is None or standing.likes is None:
        return []
    counts = {"pairs": standing.pairs, "likes": standing.likes}
    return [] if enough(policy, **counts) else [shortfall(policy, **counts)]


def _unmet(policy: UpdatePolicy, standing: Standing) -> list[str]:
    found = [] if policy.enabled else ["the policy to be enabled"]
    if standing.new_labels < policy.min_new_labels:
        found.append(f"{standing.new_labels} of {policy.min_new_labels} new labels")
    if standing.users < policy.min_users:
        found.append(f"{standing.users} of {policy.min_users} users")
    since = standing.hours_since_last_update
    if since is not None and since < policy.cooldown_hours:
        found.append(f"{policy.cooldown_hours - since:.1f} h of cooldown left")
    return found


def _occasion(policy: UpdatePolicy, standing: Standing) -> str:
    """What starts the update; empty where nothing does."""
    found = []
    if standing.new_labels >= policy.many_new_labels:
        found.append(f"{standing.new_labels} new labels of {standing.users} users, {policy.many_new_labels} are many")
    age = standing.oldest_age_hours
    if age is not None and age >= policy.max_age_hours:
        found.append(f"the oldest new label is {age:.1f} h old, {policy.max_age_hours:.1f} h are too old")
    rate = standing.like_rate
    if rate is not None and standing.thumbs >= policy.alarm_min_thumbs and rate < policy.alarm_like_rate:
        found.append(f"a like rate of {rate:.2f} in {standing.thumbs} new thumbs, below {policy.alarm_like_rate:.2f}")
    return "; ".join(found)


def _no_occasion(policy: UpdatePolicy, standing: Standing) -> str:
    left = policy.max_age_hours - (standing.oldest_age_hours or 0.0)
    return (
        f"an occasion: {standing.new_labels} of {policy.many_new_labels} new labels, "
        f"or {left:.1f} h until the oldest is {policy.max_age_hours:.1f} h old"
    )
