"""What reports show of curves."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from resonant.lab.kit.contents import read_arrays
from resonant.lab.kit.domain import Figure, Section
from resonant.lab.kit.grid import Grid
from resonant.lab.kit.results import Results, first_folder
from resonant.lab.kit.svg import INK, STYLE, as_svg, legend, line_style

from .task import CURVE


def tables(results: Results) -> dict[str, Grid]:
    """The error at 0, by arm."""
    rows = [[arm.name, f"{arm.mean('middle'):.3f}"] for arm in results.arms]
    return {"Error in the middle": Grid(("arm", "error"), rows, "At 0, mean over seeds.")}


def curves(results: Results, directory: Path) -> list[Figure]:
    """The wave, and the first seed of each arm."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 3.8))
        for index, arm in enumerate(results.arms):
            kept = read_arrays(first_folder(arm, directory) / CURVE)
            assert kept is not None
            if index == 0:
                axes.plot(kept["x"], kept["true"], color=INK, linewidth=0.8, label="wave")
            axes.plot(kept["x"], kept["made"], label=arm.name, **line_style(index))
        legend(axes, len(results.arms))
        return [Figure("fitted", as_svg(figure), "The wave, and the first seed of each arm.")]


SECTIONS = (Section("Fitted curves", tables=tables, figures=curves, first=True),)
