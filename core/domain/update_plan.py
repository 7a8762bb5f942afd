"""UpdatePlan: a model update with nothing left open, as its job carries it."""

from uuid import UUID

from core.domain.evaluation import Gates
from core.domain.preference import PreferencePlan
from core.domain.value import Bool, Int, Share


class UpdatePlan(PreferencePlan):
    """The training of an update, and by what its candidate is judged.

    `is_clean_retrain`: it replaces an update whose feedback was withdrawn, so it is compared with the bare base.
    """

    update_id: UUID
    gates: Gates
    approval_below: Int
    canary_share: Share
    is_clean_retrain: Bool = False

    @property
    def training(self) -> PreferencePlan:
        """What the training room is told; what an update trains is settled by this alone."""
        return PreferencePlan(**{name: getattr(self, name) for name in PreferencePlan.model_fields})
