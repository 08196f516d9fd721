"""Folders of CLIP, LAION's head and ImageReward in their published architecture, with few random weights. Needs torch."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from tests.factories.tiny_pipeline import tokenizer

WIDTH, PATCH, GRID, LAYERS = 64, 4, 2, 2
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MED_CONFIG = {
    "hidden_act": "gelu", "hidden_size": 24, "intermediate_size": 48, "layer_norm_eps": 1e-12, "max_position_embeddings": 40,
    "num_attention_heads": 3, "num_hidden_layers": LAYERS, "vocab_size": 5 + 2 * len(LETTERS) + 2, "encoder_width": 768,
    "add_cross_attention": True,
}  # fmt: skip


def tiny_clip(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = CLIPTextConfig(
        vocab_size=len(tokenizer()), max_position_embeddings=12, bos_token_id=0, eos_token_id=1, pad_token_id=1, **sizes
    )
    vision = CLIPVisionConfig(image_size=16, patch_size=4, **sizes)
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def head_weights(width: int) -> dict[str, Tensor]:
    """As LAION and ImageReward publish them: layers 0, 2, 4, 6 and 7 of width - 1024 - 128 - 64 - 16 - 1."""
    sizes = zip((0, 2, 4, 6, 7), (width, 1024, 128, 64, 16), (1024, 128, 64, 16, 1), strict=True)
    state = {}
    for number, inputs, outputs in sizes:
        state[f"layers.{number}.weight"] = torch.randn(outputs, inputs) / inputs**0.5
        state[f"layers.{number}.bias"] = torch.randn(outputs) / 4
    return state


def tiny_image_reward(folder: Path, seed: int = 0) -> Path:
    """ImageReward.pt under BLIP's own names, its text configuration, and a vocabulary of letters."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    state = {f"blip.visual_encoder.{name}": value for name, value in _vision().items()}
    state |= {f"blip.text_encoder.{name}": value for name, value in _text().items()}
    state |= {f"mlp.{name}": value for name, value in head_weights(MED_CONFIG["hidden_size"]).items()}
    state |= {"blip.vision_proj.weight": torch.randn(8, WIDTH), "blip.text_proj.weight": torch.randn(8, 24)}
    torch.save(state, folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(MED_CONFIG), encoding="utf-8")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    return folder


def _linear(name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.randn(outputs, inputs) / inputs**0.5, f"{name}.bias": torch.randn(outputs) / 4}


def _norm(name: str, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": 1 + torch.randn(width) / 4, f"{name}.bias": torch.randn(width) / 4}


def _vision() -> dict[str, Tensor]:
    state = {
        "cls_token": torch.randn(1, 1, WIDTH), "pos_embed": torch.randn(1, 1 + GRID**2, WIDTH),
        "patch_embed.proj.weight": torch.randn(WIDTH, 3, PATCH, PATCH) / 7, "patch_embed.proj.bias": torch.randn(WIDTH) / 4,
        **_norm("norm", WIDTH),
    }  # fmt: skip
    for i in range(LAYERS):
        block = f"blocks.{i}"
        state |= _norm(f"{block}.norm1", WIDTH) | _norm(f"{block}.norm2", WIDTH)
        state |= _linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH) | _linear(f"{block}.attn.proj", WIDTH, WIDTH)
        state |= _linear(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH) | _linear(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
    return state


def _text() -> dict[str, Tensor]:
    width, inner, tokens = MED_CONFIG["hidden_size"], MED_CONFIG["intermediate_size"], MED_CONFIG["vocab_size"]
    state = {
        "embeddings.position_ids": torch.arange(40)[None], "embeddings.word_embeddings.weight": torch.randn(tokens, width),
        "embeddings.position_embeddings.weight": torch.randn(40, width), **_norm("embeddings.LayerNorm", width),
    }  # fmt: skip
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for kind, source in (("attention", width), ("crossattention", WIDTH)):
            attention = f"{layer}.{kind}"
            state |= _linear(f"{attention}.self.query", width, width) | _linear(f"{attention}.self.key", width, source)
            state |= _linear(f"{attention}.self.value", width, source) | _linear(f"{attention}.output.dense", width, width)
            state |= _norm(f"{attention}.output.LayerNorm", width)
        state |= _linear(f"{layer}.intermediate.dense", inner, width) | _linear(f"{layer}.output.dense", width, inner)
        state |= _norm(f"{layer}.output.LayerNorm", width)
    return state
