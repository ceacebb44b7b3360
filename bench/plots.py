"""Pictures of a result, as SVG and PNG. Reads the document that ``latency.py`` writes, and its latencies.

python bench/plots.py [bench/results/latest.json]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.paths import RESULTS
from bench.systems import DEDICATED, FASTAPI, FUNCTIONS, ONE_SHOT, WEBHOOK_BASH, WEBHOOK_PYTHON

#: Ours are thick and warm, those without isolation cold; readable in grey and by the color-blind (Okabe and Ito).
STYLES: Final[Mapping[str, Mapping[str, Any]]] = {
    ONE_SHOT: {"color": "#D55E00", "linewidth": 2.6, "zorder": 5},
    DEDICATED: {"color": "#E69F00", "linewidth": 2.6, "zorder": 4},
    WEBHOOK_BASH: {"color": "#0072B2", "linewidth": 1.4, "linestyle": "--"},
    WEBHOOK_PYTHON: {"color": "#56B4E9", "linewidth": 1.4, "linestyle": "--"},
    FASTAPI: {"color": "#009E73", "linewidth": 1.4},
    FUNCTIONS: {"color": "#999999", "linewidth": 1.4},
}
#: Points of a distribution: shares of requests that were slower.
_SLOWER: Final = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


class NoPlots(Exception):
    """The library that draws is not installed."""


def draw_all(document: Mapping[str, Any], latencies: Mapping[str, Sequence[float]], directory: Path) -> list[Path]:
    """Draws what the document holds; the files. ``latencies``: microseconds of the paced requests, by system.

    Raises :class:`NoPlots`.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra

        mpl.use("Agg")
    except ImportError as error:
        raise NoPlots("matplotlib is not installed (make bench-setup)") from error
    mpl.rcParams.update({"svg.hashsalt": "minwebhook", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3})
    written = _figure(
        document, "latency-distribution", directory, lambda axes: _distribution(axes, document, latencies)
    )
    if document.get("open_loop"):
        written += _figure(document, "latency-by-rate", directory, lambda axes: _by_rate(axes, document))
    return written


def _figure(document: Mapping[str, Any], name: str, directory: Path, draw: Callable[[Any], None]) -> list[Path]:
    import matplotlib.pyplot as plt  # noqa: PLC0415 - as above

    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    draw(axes)
    machine = document["machine"]
    virtual = "virtual machine, " if machine["is_virtual"] else ""
    parts = f"{virtual}{machine['cores']} cores, {machine['cpu']}, {machine['kernel']}, {machine['python']}"
    axes.set_title(f"{axes.get_title()}\n", fontsize=11)
    axes.text(0.5, 1.015, parts, transform=axes.transAxes, ha="center", va="bottom", fontsize=7.5, color="#666666")
    paths = [directory / f"{name}.{kind}" for kind in ("svg", "png")]
    for path in paths:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return paths


def _distribution(axes: Any, document: Mapping[str, Any], latencies: Mapping[str, Sequence[float]]) -> None:
    for name, style in STYLES.items():
        ordered = sorted(latencies.get(name, ()))
        points = [share for share in _SLOWER if share * len(ordered) >= 1]
        if not points:
            continue
        values = [ordered[min(int((1 - share) * len(ordered)), len(ordered) - 1)] / 1000 for share in points]
        axes.plot(points, values, label=_label(document, name), **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    ticks = (0.5, 0.1, 0.01, 0.001)
    axes.set_xticks(ticks, [f"p{100 * (1 - share):g}" for share in ticks])
    axes.set_xlabel("percentile")
    axes.set_ylabel("latency, ms")
    axes.set_title("A sync call at low load: one request, then a pause of 4 ms", fontsize=11)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.9))


def _by_rate(axes: Any, document: Mapping[str, Any]) -> None:
    for name, style in STYLES.items():
        points = [point for point in document["open_loop"] if point["system"] == name and point["n"]]
        if not points:
            continue
        rates = [point["rate"] for point in points]
        axes.plot(rates, [point["p50"] / 1000 for point in points], label=_label(document, name), **style)
        axes.plot(rates, [point["p99"] / 1000 for point in points], **{**style, "alpha": 0.45, "linewidth": 1.0})
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("requests per second, at fixed times")
    axes.set_ylabel("latency from the intended start, ms")
    axes.set_title("Latency against rate: median (thick) and p99 (thin)", fontsize=11)
    axes.legend(fontsize=8)


def _label(document: Mapping[str, Any], name: str) -> str:
    system = document["systems"][name]
    return f"{system['label']} ({system['isolation']})"


def main(arguments: Sequence[str]) -> int:
    """Draw an earlier result again."""
    path = Path(arguments[0]) if arguments else RESULTS / "latest.json"
    document = json.loads(path.read_text())
    for written in draw_all(document, document["paced_latencies_us"], path.parent):
        print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
