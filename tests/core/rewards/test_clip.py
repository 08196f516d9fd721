"""Rewards on CLIP against transformers' own logits, and what they say when weights are missing or another network's."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from d3po_core.errors import BadParams, ModelMissing
from d3po_core.rewards import load_reward
from d3po_core.rewards.clip import AESTHETIC_HEAD, resized
from tests.factories.tiny_pipeline import tokenizer
from tests.factories.tiny_rewards import head_weights, tiny_clip

PROMPTS = ["a cat", "two dogs on a hill by the sea", "owl"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_clip(tmp_path_factory.mktemp("clip"))
    torch.save(head_weights(8), folder / AESTHETIC_HEAD)
    return folder


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (height, 24, 3), dtype=np.uint8)) for height in (24, 40, 30)]


@torch.no_grad()
def logits(folder: Path) -> torch.Tensor:
    """exp(logit_scale) times the cosine of each image and its prompt, by transformers."""
    tokens = tokenizer()(PROMPTS, padding=True, truncation=True, max_length=12, return_tensors="pt")
    return CLIPModel.from_pretrained(folder).eval()(pixel_values=resized(pictures(), 16), **tokens).logits_per_image.diagonal()


def test_clip_score_is_the_cosine(folder: Path) -> None:
    scale = CLIPModel.from_pretrained(folder).logit_scale.exp().item()
    scores = load_reward("clip_score", model=str(folder)).score(pictures(), PROMPTS)
    assert scores == pytest.approx((logits(folder) / scale).tolist(), abs=1e-6)
    assert max(scores) - min(scores) > 1e-3


def test_pick_score_is_the_scaled_cosine(folder: Path) -> None:
    scores = load_reward("pick_score", model=str(folder)).score(pictures(), PROMPTS)
    assert scores == pytest.approx(logits(folder).tolist(), abs=1e-5)


def test_the_tokenizer_of_pick_score_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    reward = load_reward("pick_score", model=str(tmp_path), tokenizer=str(folder))
    assert reward.score(pictures(), PROMPTS) == pytest.approx(logits(folder).tolist(), abs=1e-5)


@torch.no_grad()
def test_the_aesthetic_score_is_linear_in_the_unit_embedding(folder: Path) -> None:
    features = CLIPModel.from_pretrained(folder).eval().get_image_features(pixel_values=resized(pictures(), 16)).pooler_output
    x = features / features.norm(dim=1, keepdim=True)
    weights = torch.load(folder / AESTHETIC_HEAD, weights_only=True)
    for layer in (0, 2, 4, 6, 7):
        x = x @ weights[f"layers.{layer}.weight"].T + weights[f"layers.{layer}.bias"]
    scores = load_reward("aesthetic", model=str(folder)).score(pictures(), PROMPTS)
    assert scores == pytest.approx(x[:, 0].tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["clip_score", "pick_score", "aesthetic"])
def test_a_score_does_not_depend_on_its_batch(name: str, folder: Path) -> None:
    together = load_reward(name, model=str(folder)).score(pictures(), PROMPTS)
    assert together == pytest.approx(load_reward(name, model=str(folder), batch_size=1).score(pictures(), PROMPTS), abs=1e-5)


def test_only_the_middle_of_a_wide_image_is_seen() -> None:
    image = Image.new("RGB", (32, 16), (10, 20, 30))
    edged = image.copy()
    edged.paste((255, 255, 255), (0, 0, 4, 16))
    assert torch.equal(resized([image], 16), resized([edged], 16))
    assert resized([image], 16)[0, :, 0, 0].tolist() == pytest.approx(
        [(10 / 255 - 0.48145466) / 0.26862954, (20 / 255 - 0.4578275) / 0.26130258, (30 / 255 - 0.40821073) / 0.27577711]
    )


@pytest.mark.parametrize("name", ["clip_score", "pick_score", "aesthetic", "image_reward"])
def test_weights_that_are_not_there_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelMissing, match=f"The weights of the reward {name}, {tmp_path}/none, are not there"):
        load_reward(name, model=f"{tmp_path}/none")
    with pytest.raises(ModelMissing, match=f"The reward {name} "):
        load_reward(name, model=str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelMissing, match=f"The weights of the reward {name}, someone/something, are not there"):
        load_reward(name, model="someone/something")


@pytest.mark.parametrize("name", ["clip_score", "pick_score", "aesthetic", "image_reward"])
def test_nothing_is_fetched_that_was_not_named(name: str) -> None:
    with pytest.raises(BadParams, match=f"The reward {name} cannot be loaded with these parameters. model: Field required"):
        load_reward(name)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    with pytest.raises(ModelMissing, match="clip_score"):
        load_reward("clip_score", model=str(tmp_path))


def test_random_weights_are_never_put_in_place_of_missing_ones(folder: Path, tmp_path: Path) -> None:
    model = CLIPModel.from_pretrained(folder)
    del model.visual_projection
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelMissing, match=r"lacks weights of the CLIPModel of the reward aesthetic: visual_projection\.weight"):
        load_reward("aesthetic", model=str(tmp_path))


def test_weights_published_in_half_precision_score_in_float32(folder: Path, tmp_path: Path) -> None:
    CLIPModel.from_pretrained(folder).half().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    scores = load_reward("clip_score", model=str(tmp_path)).score(pictures(), PROMPTS)
    assert scores == pytest.approx(load_reward("clip_score", model=str(folder)).score(pictures(), PROMPTS), abs=1e-2)


def test_a_truncated_file_of_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ModelMissing, match="The reward clip_score cannot load"):
        load_reward("clip_score", model=str(tmp_path))


def test_a_device_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(BadParams, match="The reward clip_score cannot be loaded on the device abacus: "):
        load_reward("clip_score", device="abacus", model=str(folder))


def test_the_head_is_asked_for_by_its_name(folder: Path, tmp_path: Path) -> None:
    tiny_clip(tmp_path / "clip")
    with pytest.raises(ModelMissing, match=r"needs the head sac\+logos\+ava1-l14-linearMSE.pth; .* Name it with head="):
        load_reward("aesthetic", model=str(tmp_path / "clip"))
    reward = load_reward("aesthetic", model=str(tmp_path / "clip"), head=str(folder / AESTHETIC_HEAD))
    assert reward.score(pictures(), PROMPTS) == load_reward("aesthetic", model=str(folder)).score(pictures(), PROMPTS)


def test_a_head_of_another_width_is_refused(folder: Path, tmp_path: Path) -> None:
    torch.save(head_weights(9), tmp_path / "head.pth")
    with pytest.raises(ModelMissing, match=r"(?s)aesthetic in .*head\.pth are those of another network.*layers\.0\.weight"):
        load_reward("aesthetic", model=str(folder), head=str(tmp_path / "head.pth"))


class Trap:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("content", [b"", b"no weights", pickle.dumps(Trap(), protocol=2)])
def test_a_head_is_data_and_never_code(content: bytes, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("head.pth").write_bytes(content)
    with pytest.raises(ModelMissing, match="The reward aesthetic cannot read weights from"):
        load_reward("aesthetic", model=str(folder), head=str(tmp_path / "head.pth"))
    assert not Path("sprung").exists()
