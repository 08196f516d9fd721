"""sample.pkl of the published code, for the command line: `python -m worker.published import|export`, told by JSON on stdin.

The only part of import and export that needs PyTorch and the base model. It writes files and one JSON line for each on stdout;
it changes no row.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import IO, Any

from d3po_core.params import SamplingParams
from worker import gpu
from worker.perform import explain
from worker.train import own_stdout, write_line

log = logging.getLogger(__name__)


def main(verb: str) -> int:
    told, report = json.load(sys.stdin), own_stdout()
    try:
        {"import": bring_in, "export": take_out}[verb](told, report)
    except Exception as error:
        log.exception("%s of sample.pkl broke.", verb)
        write_line(report, error=explain(error)[0])
        return 1
    return 0


def bring_in(told: dict[str, Any], report: IO[str]) -> None:
    """A trajectory a group, with log-probabilities by the base model; what a killed try left is taken as it is."""
    gpu.stay_offline()
    from d3po_core.published import check_fits, read_samples, stored

    samples, params = read_samples(Path(told["samples"])), SamplingParams.model_validate(told["params"])
    params = params.model_copy(update={"num_inference_steps": samples.timesteps.shape[1]})
    denoiser = gpu.load(told["base_model"])
    check_fits(samples, len(told["prompts"]), params, denoiser)
    for group, (prompt, path) in enumerate(zip(told["prompts"], told["paths"], strict=True)):
        sha256 = stored(samples, group, prompt, params, denoiser, Path(path))
        write_line(report, sha256=sha256, num_inference_steps=params.num_inference_steps)


def take_out(told: dict[str, Any], report: IO[str]) -> None:
    from d3po_core.published import write_samples

    write_samples(Path(told["samples"]), [(Path(path), sha256) for path, sha256 in told["trajectories"]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
