"""`python -m d3po_core.demo_model`: rebuild the embedded model from its data. Every stage resumes where it was stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL, StableDiffusionPipeline

from d3po_core.demo_model import WEIGHTS
from d3po_core.demo_model.card import write_card
from d3po_core.demo_model.emoji import fetch, nameable, read
from d3po_core.demo_model.retriever import save_retriever, train_retriever
from d3po_core.demo_model.text import new_tokenizer
from d3po_core.demo_model.unet import encode_composites, new_scheduler, train_unet
from d3po_core.demo_model.vae import refine_decoder, train_vae

VAE_STEPS, DECODER_STEPS, RETRIEVER_STEPS, UNET_STEPS = 1820, 2500, 1500, 13_000
SEED = 1


def rebuild(
    build: Annotated[Path, typer.Option(help="Where data and checkpoints of the stages are kept.")] = Path("build/demo-model"),
    out: Annotated[Path, typer.Option(help="Where the finished pipeline folder goes.")] = WEIGHTS,
    scale: Annotated[float, typer.Option(help="Multiply the steps of every stage; 0.01 is a dry run.")] = 1.0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train autoencoder, decoder, judge, text encoder and U-Net; write the pipeline folder and its model card."""
    torch.set_num_threads(threads)

    def steps(count: int) -> int:
        return max(2, round(count * scale))

    emoji, rgba = read(fetch(build / "emoji"))
    vae = _kept(build / "vae") or _keep(train_vae(rgba, steps(VAE_STEPS), build, SEED), build / "vae")
    refined = _kept(build / "vae-refined") or _keep(
        refine_decoder(vae, rgba, steps(DECODER_STEPS), build, SEED), build / "vae-refined"
    )
    emoji, rgba = nameable(emoji, rgba)
    judge = train_retriever(refined, rgba, steps(RETRIEVER_STEPS), build, SEED)
    tokenizer = new_tokenizer(emoji)
    latents = encode_composites(refined, emoji, rgba, build / "latents.pt", SEED)
    model = train_unet(latents, emoji, tokenizer, steps(UNET_STEPS), build, SEED)
    pipeline = StableDiffusionPipeline(
        vae=refined,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    shutil.rmtree(out, ignore_errors=True)
    pipeline.to(dtype=torch.float16).save_pretrained(out)
    save_retriever(judge, [e.phrases() for e in emoji], out)
    write_card(out, emoji, rgba, steps(UNET_STEPS))


def _kept(folder: Path) -> AutoencoderKL | None:
    return AutoencoderKL.from_pretrained(folder).eval().requires_grad_(False) if folder.exists() else None


def _keep(vae: AutoencoderKL, folder: Path) -> AutoencoderKL:
    vae.save_pretrained(folder)
    return vae


if __name__ == "__main__":
    typer.run(rebuild)
