"""The storage contract: where every artifact lives.

Keys of a job's results hold the claim epoch, so a run that lost its claim can never overwrite the one that
replaced it. No key is the folder of another.
"""

from uuid import UUID

INSTALLATION = "installation"
"""Says which database the bucket belongs to."""


def output(*, job_id: UUID, claim_epoch: int, name: str) -> str:
    """A result of a job, for instance `0.png` or `adapter.safetensors`."""
    return f"job/{job_id}/{claim_epoch}/output/{name}"


def checkpoint(*, job_id: UUID, claim_epoch: int, step: int, name: str) -> str:
    """One file of a training checkpoint."""
    return f"{checkpoint_prefix(job_id=job_id, claim_epoch=claim_epoch, step=step)}{name}"


def checkpoint_prefix(*, job_id: UUID, claim_epoch: int, step: int) -> str:
    """The folder of a training checkpoint."""
    return f"job/{job_id}/{claim_epoch}/checkpoint/{step}/"


def job_prefix(*, job_id: UUID) -> str:
    """Everything a job ever wrote."""
    return f"job/{job_id}/"


def init_image(*, tenant_id: UUID, folder: str, sha256: str) -> str:
    """A picture sent along with a generation request; each has a folder of its own, so that none is another's."""
    return f"tenant/{tenant_id}/init-image/{folder}/{sha256}.png"


def dataset_image(*, dataset_id: UUID, sha256: str) -> str:
    """A checked and re-encoded picture of a dataset."""
    return f"dataset/{dataset_id}/image/{sha256}.png"


def dataset_prefix(*, dataset_id: UUID) -> str:
    """Everything of a dataset."""
    return f"dataset/{dataset_id}/"


def dataset_upload(*, dataset_id: UUID, name: str) -> str:
    """A picture as the client's upload left it, not checked yet."""
    return f"dataset/{dataset_id}/upload/{name}"


def imported_adapter(*, tenant_id: UUID, sha256: str, name: str) -> str:
    """A file of an adapter that came from outside, by its content."""
    return f"tenant/{tenant_id}/adapter/{sha256}/{name}"
