"""What a training reads: the frozen pictures and captions of its dataset."""

from sqlalchemy.orm import Session

from core.domain.dataset import DatasetItem, DatasetManifest
from core.domain.errors import DatasetUnusable
from core.infra.repository import dataset as datasets
from core.services.run import Claim


def read_manifest(session: Session, claim: Claim, *, digest: str) -> DatasetManifest:
    """The claimed training's pictures, in order.

    Raises:
        DatasetUnusable: the dataset is gone, empty, or not the one that the training was accepted with.
    """
    dataset_id = claim.dataset_id
    dataset = datasets.by_id(session, tenant_id=claim.tenant_id, dataset_id=dataset_id) if dataset_id else None
    if dataset is None or not dataset.images:
        raise DatasetUnusable("The dataset is gone.")
    manifest = DatasetManifest(
        items=tuple(
            DatasetItem(
                object_key=image.object_key,
                sha256=image.sha256 or "",
                caption=image.caption,
                width=image.width or 0,
                height=image.height or 0,
            )
            for image in dataset.images
        )
    )
    if manifest.digest != digest:
        raise DatasetUnusable("The dataset is not the one that this training was accepted with.")
    return manifest
