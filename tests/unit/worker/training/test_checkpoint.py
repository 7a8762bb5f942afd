import json
import resource
from pathlib import Path

import pytest
import torch

from tests.training_bench import make_plan
from worker.training.checkpoint import (
    MANIFEST,
    Snapshot,
    digest_config,
    find_fault,
    read_checkpoint,
    write_checkpoint,
)

CONFIG = "c" * 64


def make_snapshot(step: int = 12) -> Snapshot:
    return Snapshot(
        step=step,
        position=48,
        first_loss=0.5,
        adapter={"unet.a": torch.randn(3, 2)},
        optimizer={"unet.a.exp_avg": torch.randn(3, 2), "unet.a.step": torch.tensor(12.0)},
        random={"noise": torch.Generator().manual_seed(1).get_state()},
        scaler={"scale": 2.0},
    )


def test_what_was_written_is_read_with_its_samples(tmp_path: Path) -> None:
    sample = tmp_path / "sample-12-0.png"
    sample.write_bytes(b"picture")
    snapshot = make_snapshot()
    path = write_checkpoint(tmp_path / "c", snapshot, config_sha256=CONFIG, attachments=[sample])
    assert find_fault(path, config_sha256=CONFIG) is None
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["00000012"]
    read = read_checkpoint(path, attachments=tmp_path / "back")
    assert (read.step, read.position, read.first_loss, read.scaler) == (12, 48, 0.5, {"scale": 2.0})
    for name in ("adapter", "optimizer", "random"):
        written, found = getattr(snapshot, name), getattr(read, name)
        assert written.keys() == found.keys() and all(torch.equal(written[key], found[key]) for key in written)
    assert (tmp_path / "back" / "sample-12-0.png").read_bytes() == b"picture"


@pytest.mark.parametrize("name", ["adapter.safetensors", "optimizer.safetensors", "random.safetensors", MANIFEST])
def test_any_damage_is_found(tmp_path: Path, name: str) -> None:
    path = write_checkpoint(tmp_path, make_snapshot(), config_sha256=CONFIG, attachments=[])
    whole = (path / name).read_bytes()
    for broken in (whole[:-1], b"", whole[: len(whole) // 2]):
        (path / name).write_bytes(broken)
        assert find_fault(path, config_sha256=CONFIG) is not None
    (path / name).unlink()
    assert find_fault(path, config_sha256=CONFIG) is not None
    (path / name).write_bytes(whole)
    assert find_fault(path, config_sha256=CONFIG) is None


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "c", make_snapshot(), config_sha256=CONFIG, attachments=[])
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"]["../../outside"] = "0" * 64
    (path / MANIFEST).write_text(json.dumps(manifest))
    assert "form" in str(find_fault(path, config_sha256=CONFIG))


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, make_snapshot(), config_sha256=CONFIG, attachments=[])
    assert "configuration" in str(find_fault(path, config_sha256="d" * 64))
    plan = make_plan()
    assert digest_config(plan, base_model_id="a") == digest_config(make_plan(), base_model_id="a")
    assert digest_config(plan, base_model_id="a") != digest_config(plan, base_model_id="b")
    assert digest_config(plan, base_model_id="a") != digest_config(make_plan(steps=5), base_model_id="a")


def test_a_draft_left_by_a_crash_is_no_checkpoint_and_in_nobodys_way(tmp_path: Path) -> None:
    draft = tmp_path / "00000012.draft"
    draft.mkdir()
    (draft / "adapter.safetensors").write_bytes(b"half")
    assert find_fault(tmp_path / "00000012", config_sha256=CONFIG) is not None
    path = write_checkpoint(tmp_path, make_snapshot(), config_sha256=CONFIG, attachments=[])
    assert find_fault(path, config_sha256=CONFIG) is None and not draft.exists()


def test_a_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    """With a limit on the size of files, which the system treats as it does a disk without space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_checkpoint(tmp_path, make_snapshot(), config_sha256=CONFIG, attachments=[])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == [], "what was written of it would keep the disk full"
