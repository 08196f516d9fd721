"""Which timesteps can be learned from: the true gradient of a score against the noise of what votes say about it.

A vote tells D3PO about a score only through the noise that the chain happened to draw, so a group's gradient is the true
one plus a great deal of chance. Colourfulness can be differentiated, so here the true gradient is known: back through the
decoder and the chain, step by step. For every timestep the script prints both, and then how far the sum over timesteps
stands out of its noise for several choices of timesteps and weights. Signals of different timesteps add up, since they
point the same way; noises add up only in their squares.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from d3po_core.demo_model import WEIGHTS
from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.params import SamplingParams
from d3po_core.prompts import prompt_set
from d3po_core.sampling import SampledGroup, sample_groups
from d3po_core.schedules import step_weights
from d3po_core.transitions import log_prob

LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
FRACTIONS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.45, 0.3)
console = Console(highlight=False)


@dataclass
class Seen:
    """Per timestep: the true gradient's sum over even and odd groups [2,T,P], and the votes' mean squared gradient [T]."""

    true: Tensor
    noise: Tensor


def colourfulness(pixels: Tensor) -> Tensor:
    """Hasler and Suesstrunk's measure, differentiable. pixels float32 [N,3,H,W] in 0..255. Returns [N]."""
    red, green, blue = pixels.flatten(2).unbind(1)
    axes = torch.stack([red - green, (red + green) / 2 - blue])
    return axes.var(dim=2).sum(0).clamp(min=1e-6).sqrt() + 0.3 * axes.mean(dim=2).square().sum(0).clamp(min=1e-6).sqrt()


def advantages(scores: Tensor) -> Tensor:
    """What a full ranking says of each image: pairs won less pairs lost, over all pairs. scores [N]; returns [N]."""
    return torch.sign(scores[:, None] - scores).sum(1) / (len(scores) * (len(scores) - 1) / 2)


def trained_layers(denoiser: Denoiser) -> list[nn.Parameter]:
    modules = denoiser.module.named_modules()
    return [module.weight.requires_grad_() for name, module in modules if name.endswith(LAYERS) and isinstance(module, nn.Linear)]


def flat(gradients: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


def look_at(denoiser: Denoiser, group: SampledGroup, layers: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
    """One group's true gradient of its mean score, in its own standard deviations, [T,P], and its votes' squared gradient [T].

    The adjoint of the chain: d score / d x_k comes from d score / d x_{k+1} by one step's vector-Jacobian product.
    """
    header, chain = group.trajectory.header, group.trajectory.latents
    transition = denoiser.transition(header.params)
    conditioning = group.trajectory.conditioning.expand(len(chain))
    last = chain[:, -1].clone().requires_grad_()
    scores = colourfulness((denoiser.pipeline.vae.decode(denoiser.unscaled(last)).sample.clamp(-1, 1) + 1) * 127.5)
    (adjoint,) = torch.autograd.grad(scores.mean() / scores.detach().std(), last)
    votes = advantages(scores.detach())
    true, noise = [], []
    for k, step in reversed(list(enumerate(header.steps))):
        latents = chain[:, k].clone().requires_grad_()
        timesteps = torch.full((len(latents),), step.timestep)
        output = denoiser.predict(latents, timesteps, conditioning, header.params.guidance_scale)
        mean = transition.mean(output, latents, [step] * len(latents))
        estimate = (votes * log_prob(chain[:, k + 1], mean, [step] * len(latents))).sum()
        noise.append(flat(torch.autograd.grad(estimate, layers, retain_graph=True)).square().sum())
        adjoint, *gradients = torch.autograd.grad((adjoint * mean).sum(), [latents, *layers])
        true.append(flat(tuple(gradients)))
    return torch.stack(true[::-1]), torch.stack(noise[::-1])


def look(denoiser: Denoiser, groups: list[SampledGroup]) -> Seen:
    layers = trained_layers(denoiser)
    halves, noise = [torch.zeros(1), torch.zeros(1)], torch.zeros(1)
    for number, group in enumerate(track(groups, description="gradients", transient=True)):
        true, squares = look_at(denoiser, group, layers)
        halves[number % 2] = halves[number % 2] + true / (len(groups) / 2)
        noise = noise + squares / len(groups)
    return Seen(torch.stack(halves), noise)


def stands_out(seen: Seen, weights: Tensor) -> float:
    """Squared signal over noise of the weighted sum over timesteps, in arbitrary units. The halves' inner product has no bias."""
    even, odd = (torch.einsum("k,kp->p", weights, half) for half in seen.true)
    return float(even @ odd / (weights.square() * seen.noise).sum())


def compare(denoiser: Denoiser, params: SamplingParams, seen: Seen) -> dict[str, Any]:
    """The table: each choice relative to all timesteps with equal weights, which is the published one."""
    steps = denoiser.transition(params).steps
    trainable = [k for k, step in enumerate(steps) if step.sigma > 0]
    published = torch.tensor([float(k in trainable) for k in range(len(steps))])
    choices = {}
    for weighting in ("uniform", "sensitivity"):
        for fraction in FRACTIONS:
            kept = trainable[: max(1, round(fraction * len(trainable)))]
            weights = torch.zeros(len(steps))
            weights[kept] = torch.tensor(step_weights(denoiser.transition(params), [steps[k] for k in kept], weighting))
            choices[f"{weighting}, noisiest {fraction:.0%}"] = stands_out(seen, weights) / stands_out(seen, published)
    rows = [
        {"timestep": step.timestep, "signal": float(even @ odd), "noise": float(noise)}
        for step, even, odd, noise in zip(steps, *seen.true, seen.noise, strict=True)
    ]
    return {"num_inference_steps": len(steps), "timesteps": rows, "over_published": choices}


def main(
    groups: Annotated[int, typer.Option(help="Groups of six images.")] = 48,
    steps: Annotated[list[int], typer.Option(help="Numbers of denoising steps.")] = [10, 20],  # noqa: B006
    json_line: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")] = False,
) -> None:
    """Print signal and noise of every timestep, and what each choice of timesteps gains."""
    torch.set_num_threads(1)
    denoiser, results = load_denoiser(WEIGHTS), []
    for count in steps:
        params = SamplingParams(num_inference_steps=count, seed=1)
        prompts = prompt_set("demo").draw(groups, seed=1)
        drawn = [group for k in range(0, groups, 8) for group in sample_groups(denoiser, prompts[k : k + 8], params, k)]
        results.append(compare(denoiser, params, look(denoiser, drawn)))
        for row in results[-1]["timesteps"]:
            console.print("t {timestep:4.0f}   signal {signal:9.2e}   noise {noise:9.2e}".format(**row))
        for name, ratio in results[-1]["over_published"].items():
            console.print(f"T = {count}, {name}: signal to noise {ratio:.2f} times the published choice's")
    if json_line:
        print(json.dumps({"chains": results}))


if __name__ == "__main__":
    typer.run(main)
