"""The figure and the table of one objective of `benchmarks.curves`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAMES = {"d3po": "D3PO", "ddpo": "DDPO", "dpok": "DPOK", "rwr": "RWR"}
COLOURS = {"d3po": "#0072b2", "ddpo": "#d55e00", "dpok": "#009e73", "rwr": "#cc79a7"}
MARKERS = {"d3po": "o", "ddpo": "s", "dpok": "^", "rwr": "D"}
LABELS = {
    "compressibility": "minus JPEG size, kB",
    "incompressibility": "JPEG size, kB",
    "colourfulness": "colourfulness",
}


def draw(result: dict[str, Any], path: Path) -> None:
    """Held-out reward and name retrieval against images sampled: a line a method, its interval shaded."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "d3po", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (reward, retrieval) = pyplot.subplots(1, 2, figsize=(9, 3.6))
    for method, points in result["curves"].items():
        images = [point["images"] for point in points]
        start = points[0]["reward"]
        style = {"color": COLOURS[method], "marker": MARKERS[method], "markersize": 4, "label": NAMES[method]}
        reward.plot(images, [start + point["gain"]["mean"] for point in points], **style)
        retrieval.plot(images, [100 * point["retrieval"]["mean"] for point in points], **style)
        for panel, name, shift, scale in ((reward, "gain", start, 1), (retrieval, "retrieval", 0.0, 100)):
            low, high = ([shift + scale * point[name][end] for point in points] for end in ("low", "high"))
            panel.fill_between(images, low, high, color=COLOURS[method], alpha=0.15, linewidth=0)
    reward.set_ylabel(f"held-out {LABELS[result['setting']['objective']]}")
    retrieval.set_ylabel("images that show what was asked, %")
    retrieval.set_ylim(0, 100)
    for panel in (reward, retrieval):
        panel.set_xlabel("images sampled")
        panel.grid(color="#dddddd", linewidth=0.6)
    reward.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    pyplot.close(figure)


HEAD = ("method", "setting chosen", "reward", "rise over the base model", "images that beat it", "retrieval", "D3PO ahead by")


def table(result: dict[str, Any]) -> str:
    """Markdown: what each method has reached at the last point of its curve, with intervals."""
    rows = [HEAD, ["---"] * len(HEAD), *(cells(result, method) for method in result["curves"])]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cells(result: dict[str, Any], method: str) -> list[str]:
    end, ahead = result["curves"][method][-1], result["d3po_ahead_of"].get(method)
    changes = result["best"][method]["changes"].items()
    return [
        NAMES[method],
        ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in changes),
        f"{end['reward']:.4g}",
        between(end["gain"]),
        percent(end["wins"]),
        percent(end["retrieval"]),
        between(ahead) if ahead else "",
    ]


def controls(result: dict[str, Any]) -> str:
    """A line for each configuration that was not chosen and went through the seeds too."""
    return "\n".join(
        f"{name}, not chosen: rise {between(told['gain'])}, retrieval {percent(told['retrieval'])}, ahead of "
        + ", ".join(f"{NAMES[method]} by {between(found)}" for method, found in told["ahead_of"].items())
        for name, told in result["controls"].items()
    )


def between(value: dict[str, float]) -> str:
    return f"{value['mean']:+.3g} [{value['low']:+.3g}, {value['high']:+.3g}]"


def percent(value: dict[str, float]) -> str:
    return f"{100 * value['mean']:.0f} % [{100 * value['low']:.0f}, {100 * value['high']:.0f}]"
