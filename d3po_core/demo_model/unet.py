"""Stage 2: the text encoder and the U-Net, trained together on latents encoded beforehand."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from rich.progress import track
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from d3po_core.demo_model.captions import COLOURS
from d3po_core.demo_model.compose import CLOSE, compose
from d3po_core.demo_model.emoji import Emoji, is_held_out, random_caption
from d3po_core.demo_model.stage import Stage
from d3po_core.demo_model.text import new_text_encoder

BATCH = 32
VARIATIONS = 128
CAPTION_DROPOUT = 0.1
MIN_SNR_GAMMA = 5.0
SNR_FLOOR = 0.1
EMA_DECAY = 0.999
LEARNING_RATE = 1e-3


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.5's schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=2,
        norm_num_groups=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )


class TextToLatents(nn.Module):
    """The two modules that stage 2 trains, as one."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(latents, timesteps, self.text_encoder(tokens).last_hidden_state).sample


class Ema:
    """Exponential moving average of a module's parameters, warmed up over the first steps."""

    def __init__(self, module: TextToLatents) -> None:
        self.average = copy.deepcopy(module)
        self.average.requires_grad_(False)
        self.state_dict, self.load_state_dict = self.average.state_dict, self.average.load_state_dict

    @torch.no_grad()
    def update(self, module: TextToLatents, step: int) -> None:
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.parameters()), list(module.parameters()), 1 - decay)


def encode_composites(vae: AutoencoderKL, emoji: list[Emoji], rgba: Tensor, path: Path, seed: int) -> dict[str, Tensor]:
    """Draw VARIATIONS composites of every emoji, held-out colours left out, and encode them.

    Returns latents float16 [count,4,16,16] (scaled), which int64 [count] and colour int64 [count]; cached in `path`.
    """
    if path.exists():
        return torch.load(path, weights_only=True)
    allowed = [(i, c) for i, e in enumerate(emoji) for c, name in enumerate(COLOURS) if not is_held_out(e, name)]
    generator = torch.Generator().manual_seed(seed)
    chosen = [allowed[int(k)] for k in torch.randint(len(allowed), (VARIATIONS * len(emoji),), generator=generator)]
    which, colour = (torch.tensor(column) for column in zip(*chosen, strict=True))
    latents = []
    with torch.no_grad():
        for part in track(torch.arange(len(which)).split(64), "latents"):
            image = compose(rgba[which[part]], colour[part], generator, CLOSE)
            latents.append((vae.encode(image).latent_dist.mean * vae.config.scaling_factor).half())
    data = {"latents": torch.cat(latents), "which": which, "colour": colour}
    torch.save(data, path)
    return data


def random_batch(
    data: dict[str, Tensor], emoji: list[Emoji], tokenizer: CLIPTokenizer, rng: random.Random
) -> tuple[Tensor, Tensor]:
    """BATCH latents, float32 [BATCH,4,16,16], and the tokens of a random caption each, int64 [BATCH,24], 10 % of them empty."""
    colours = list(COLOURS)
    rows = [rng.randrange(len(data["latents"])) for _ in range(BATCH)]
    captions = [random_caption(emoji[data["which"][r]], colours[data["colour"][r]], rng) for r in rows]
    captions = ["" if rng.random() < CAPTION_DROPOUT else text for text in captions]
    tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return data["latents"][rows].float(), tokens


def train_unet(
    data: dict[str, Tensor], emoji: list[Emoji], tokenizer: CLIPTokenizer, steps: int, folder: Path, seed: int
) -> TextToLatents:
    """Train text encoder and U-Net to predict the noise, resuming from `folder`; return their averaged weights.

    The weight of an image is clamp(SNR, SNR_FLOOR, MIN_SNR_GAMMA) / SNR (Hang et al. 2023, eq. 5, with a floor): only at
    the noisiest timesteps the background's colour is not yet visible in the latents, so only there the model learns to
    take it from the caption, and without the floor those steps weigh nothing.
    """
    torch.manual_seed(seed)
    model = TextToLatents(new_text_encoder(tokenizer), new_unet()).train()
    ema, scheduler = Ema(model), new_scheduler()
    alphas = scheduler.alphas_cumprod
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.03, final_div_factor=100
    )
    stage = Stage("unet", folder, steps, model=model, ema=ema, optimizer=optimizer, schedule=schedule)
    for step in stage.steps():
        latents, tokens = random_batch(data, emoji, tokenizer, random.Random(seed * 1_000_003 + step))
        timesteps, noise = torch.randint(1000, (BATCH,)), torch.randn_like(latents)
        prediction = model(scheduler.add_noise(latents, noise, timesteps), timesteps, tokens)
        snr = alphas[timesteps] / (1 - alphas[timesteps])
        error = (prediction - noise).square().mean(dim=(1, 2, 3))
        loss = (error * snr.clamp(SNR_FLOOR, MIN_SNR_GAMMA) / snr).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        ema.update(model, step)
        stage.report(loss=loss.item(), mse=error.mean().item())
    return ema.average.eval()
