"""ImageReward against its own architecture, written down here from BLIP's papers and weights' names, not from transformers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from d3po_core.errors import ModelMissing
from d3po_core.rewards import load_reward
from tests.factories.tiny_rewards import GRID, LAYERS, MED_CONFIG, PATCH, WIDTH, tiny_image_reward

PROMPTS = ["a cat", "two dogs on a hill", "a" * 60]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_image_reward(tmp_path_factory.mktemp("image_reward"))


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (20, width, 3), dtype=np.uint8)) for width in (20, 28, 24)]


class Published:
    """BLIP's vision transformer and BERT with cross-attention, one image and one prompt at a time."""

    def __init__(self, folder: Path) -> None:
        self.state = torch.load(folder / "ImageReward.pt", weights_only=True)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(0, 1) for x in (query, key, value))
        weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), dim=-1)
        return (weights @ v).transpose(0, 1).flatten(1)

    def see(self, pixels: Tensor) -> Tensor:
        root = "blip.visual_encoder"
        patches = F.conv2d(
            pixels[None], self.state[f"{root}.patch_embed.proj.weight"], self.state[f"{root}.patch_embed.proj.bias"], stride=PATCH
        )
        x = torch.cat([self.state[f"{root}.cls_token"][0], patches[0].flatten(1).T]) + self.state[f"{root}.pos_embed"][0]
        for i in range(LAYERS):
            block = f"{root}.blocks.{i}"
            query, key, value = self.linear(f"{block}.attn.qkv", self.norm(f"{block}.norm1", x, 1e-6)).chunk(3, dim=-1)
            x = x + self.linear(f"{block}.attn.proj", self.attend(query, key, value, WIDTH // 64))
            inner = F.gelu(self.linear(f"{block}.mlp.fc1", self.norm(f"{block}.norm2", x, 1e-6)))
            x = x + self.linear(f"{block}.mlp.fc2", inner)
        return self.norm(f"{root}.norm", x, 1e-6)

    def read(self, tokens: list[int], seen: Tensor) -> Tensor:
        root = "blip.text_encoder"
        x = self.state[f"{root}.embeddings.word_embeddings.weight"][tokens]
        x = x + self.state[f"{root}.embeddings.position_embeddings.weight"][: len(tokens)]
        x = self.norm(f"{root}.embeddings.LayerNorm", x, 1e-12)
        for i in range(LAYERS):
            layer = f"{root}.encoder.layer.{i}"
            for kind in ("attention", "crossattention"):
                at, source = f"{layer}.{kind}", x if kind == "attention" else seen
                query, key, value = (
                    self.linear(f"{at}.self.{part}", y) for part, y in (("query", x), ("key", source), ("value", source))
                )
                mixed = self.attend(query, key, value, MED_CONFIG["num_attention_heads"])
                x = self.norm(f"{at}.output.LayerNorm", x + self.linear(f"{at}.output.dense", mixed), 1e-12)
            inner = F.gelu(self.linear(f"{layer}.intermediate.dense", x))
            x = self.norm(f"{layer}.output.LayerNorm", x + self.linear(f"{layer}.output.dense", inner), 1e-12)
        return x[0]

    def score(self, image: Image.Image, prompt: str) -> float:
        x = self.read(spelled(prompt), self.see(pixels_of(image)))
        for layer in (0, 2, 4, 6, 7):
            x = self.linear(f"mlp.layers.{layer}", x)
        return (x.item() - 0.16717362830052426) / 1.0333394966054072


def spelled(prompt: str) -> list[int]:
    """Letters as the vocabulary of the factory numbers them: [CLS] words [SEP], at most 35."""
    tokens = [5 + ord(letter) - 97 + 26 * (i > 0) for word in prompt.split() for i, letter in enumerate(word)]
    return [2, *tokens[:33], 3]


def pixels_of(image: Image.Image) -> Tensor:
    """Short side to the network's size, the middle, normalised as CLIP does."""
    size = GRID * PATCH
    scale = size / min(image.size)
    wide = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (wide.width - size) // 2, (wide.height - size) // 2
    array = np.asarray(wide.crop((left, top, left + size, top + size)), dtype=np.float32) / 255
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return torch.from_numpy((array - np.float32(mean)) / np.float32(std)).permute(2, 0, 1)


def test_scores_are_those_of_the_published_network(folder: Path) -> None:
    published = Published(folder)
    cases = list(product(pictures(), PROMPTS))
    expected = [published.score(image, prompt) for image, prompt in cases]
    scores = load_reward("image_reward", model=str(folder)).score(*zip(*cases, strict=True))
    assert scores == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.1


def test_a_score_does_not_depend_on_its_batch(folder: Path) -> None:
    together = load_reward("image_reward", model=str(folder)).score(pictures(), PROMPTS)
    alone = load_reward("image_reward", model=str(folder), batch_size=1).score(pictures(), PROMPTS)
    assert together == pytest.approx(alone, abs=1e-5)


def test_the_tokenizer_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    for name in ("ImageReward.pt", "med_config.json"):
        (tmp_path / name).symlink_to(folder / name)
    reward = load_reward("image_reward", model=str(tmp_path), tokenizer=str(folder))
    assert reward.score(pictures(), PROMPTS) == load_reward("image_reward", model=str(folder)).score(pictures(), PROMPTS)


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Iterator[Path]:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize("file", ["ImageReward.pt", "med_config.json"])
def test_a_missing_file_is_named(file: str, copied: Path) -> None:
    (copied / file).unlink()
    with pytest.raises(ModelMissing, match=f"The reward image_reward needs the file {file} in the folder"):
        load_reward("image_reward", model=str(copied))


def test_a_folder_without_the_tokenizer_is_refused(copied: Path) -> None:
    (copied / "vocab.txt").unlink()
    with pytest.raises(ModelMissing, match=r"image_reward .*tokeni"):
        load_reward("image_reward", model=str(copied))


def test_a_text_configuration_of_another_network_is_refused(copied: Path) -> None:
    (copied / "med_config.json").write_text(json.dumps(MED_CONFIG | {"hidden_size": 27}), encoding="utf-8")
    with pytest.raises(ModelMissing, match="are those of another network"):
        load_reward("image_reward", model=str(copied))
    (copied / "med_config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelMissing, match="does not describe ImageReward's network"):
        load_reward("image_reward", model=str(copied))


def test_weights_that_lack_a_tensor_are_refused(copied: Path) -> None:
    state = torch.load(copied / "ImageReward.pt", weights_only=True)
    del state["blip.text_encoder.encoder.layer.1.crossattention.self.key.bias"]
    torch.save(state, copied / "ImageReward.pt")
    with pytest.raises(ModelMissing, match=r"(?s)another network.*layer\.1\.crossattention\.self\.key\.bias"):
        load_reward("image_reward", model=str(copied))
    torch.save({"model": 3}, copied / "ImageReward.pt")
    with pytest.raises(ModelMissing, match="needs named tensors"):
        load_reward("image_reward", model=str(copied))
