from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from core.domain.evaluation import Measure
from tiny.tokenizer import build as build_tokenizer
from worker.evaluation.clip_scorer import load_scorers

CPU = torch.device("cpu")
PICTURES = [Image.new("RGB", (48, 40), color) for color in ("red", "blue", "white")]
PROMPTS = ["a red star", "a blue circle", "a " + "very " * 200 + "long prompt"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights in the layout of a real one."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = build_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


def test_a_clip_model_scores_pictures_beside_their_prompts(clip_folder: Path) -> None:
    (clip, pick), notes = load_scorers({"clip_score": clip_folder, "pick_score": clip_folder}, device=CPU)
    assert notes == []
    assert (clip.name, clip.measures) == ("clip_score", Measure.FIDELITY)
    assert (pick.name, pick.measures) == ("pick_score", Measure.PREFERENCE)
    scores = clip.score(PICTURES, PROMPTS)
    assert len(scores) == 3 and all(-1 <= score <= 1 for score in scores)
    assert clip.score(PICTURES[1:2], PROMPTS[1:2]) == pytest.approx(scores[1:2], abs=1e-6)
    assert clip.score(PICTURES, PROMPTS[::-1]) != pytest.approx(scores, abs=1e-4)
    assert clip.can_judge("a star") and not clip.can_judge(" ")


def test_the_score_is_the_models_own_cosine(clip_folder: Path) -> None:
    (clip,), _ = load_scorers({"clip_score": clip_folder}, device=CPU)
    model = CLIPModel.from_pretrained(clip_folder, use_safetensors=True).eval()
    tokenizer, processor = build_tokenizer(), CLIPImageProcessorPil.from_pretrained(clip_folder)
    words = tokenizer(["a red star"], return_tensors="pt")
    pixels = processor(PICTURES[:1], return_tensors="pt").pixel_values
    with torch.no_grad():
        cosine = model(**words, pixel_values=pixels).logits_per_image / model.logit_scale.exp()
    assert clip.score(PICTURES[:1], ["a red star"])[0] == pytest.approx(cosine.item(), abs=1e-6)


def test_what_cannot_be_loaded_is_said_and_not_fatal(clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cut = tmp_path / "cut"
    cut.mkdir()
    for file in clip_folder.iterdir():
        body = file.read_bytes()
        (cut / file.name).write_bytes(body[: len(body) // 2] if file.suffix == ".safetensors" else body)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((clip_folder / "config.json").read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"anything")
    for folder in (tmp_path / "gone", tmp_path / "empty", cut, pickled):
        scorers, notes = load_scorers({"hps_v2": folder}, device=CPU)
        assert scorers == []
        assert len(notes) == 1 and notes[0].startswith(f"The scorer hps_v2 could not be loaded from {folder}: ")


def test_an_unknown_scorer_is_named(tmp_path: Path) -> None:
    assert load_scorers({"image_reward": tmp_path}, device=CPU) == (
        [],
        ["The scorer image_reward is not known here; clip_score, hps_v2, pick_score are."],
    )
