"""Tables and pictures of what the first token is to a language model."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from ...files import write_atomically
from ..kit.grid import Grid
from ..kit.svg import INK, STYLE, as_svg, legend, line_style, on_paper

Found = dict[str, Any]


def sink_tables(found: Found) -> dict[str, Grid]:
    """Tables by heading, of what ``resonant sinks`` found."""
    tables = {
        "Weight of the first token": _weights(found),
        "By the query's position": _by_query(found),
    }
    if _has_windows(found):
        tables["Loss in windows"] = _windows(found)
    elif len(found["windows"]) > 1:
        tables["Loss"] = _losses(found)
    return tables


def _has_windows(found: Found) -> bool:
    return any(each["window"] is not None for each in found["windows"])


def named(found: Found, each: Found) -> str:
    """Name the text of a row, and the model where there are several."""
    if len(found["models"]) == 1:
        return each["text"]
    return f"{model_name(found, each['model'])}: {each['text']}"


def model_name(found: Found, model: str) -> str:
    """Name a model by its folder's name, in full where another folder is called so."""
    short = [Path(other).name for other in found["models"]]
    return Path(model).name if short.count(Path(model).name) == 1 else model


def _losses(found: Found) -> Grid:
    """Lay the losses of several models side by side."""
    rows = [[model_name(found, e["model"]), f"{e['loss']:.3f}"] for e in found["windows"]]
    text = found["texts"][0]["text"]
    said = f"Loss in nats per token of {found['length']:,} tokens of {text}, each model's own."
    return Grid(("name", "loss"), rows, said)


def _weights(found: Found) -> Grid:
    rows = []
    for each in found["texts"]:
        weight = np.array(each["weight"])
        by_layer, keys, values = weight.mean(1), each["key_norm"], each["value_norm"]
        most = int(by_layer.argmax())
        rows.append(
            [
                named(found, each),
                each["begins"],
                f"{each['share']:.0%}",
                f"{weight.mean():.3f}",
                f"{np.mean(each['uniform']):.3f}",
                f"{by_layer[most]:.3f} (layer {most + 1})",
                f"{np.median(keys):.2f}",
                f"{np.median(values):.2f}",
            ]
        )
    columns = ("name", "row", "sinks", "weight", "uniform", "largest layer", "key", "value")
    return Grid(
        columns,
        rows,
        f"Sinks: the share of heads that give the first token more than 0.3 of the weight of later "
        f"queries, over {found['rows']} pieces of {found['tokens']} tokens. Weight: the mean over "
        "layers, heads and queries; uniform: what attention that looks everywhere alike would "
        "give, if it sees all; a query whose window does not reach the first token counts as 0. "
        "Key, value: length of the first token's, in mean lengths of the others', the median over "
        "layers.",
    )


def query_blocks(count: int) -> list[tuple[int, int]]:
    """List blocks of later queries, by twos: the second token, the third and fourth, and so on."""
    edges = [1]
    while edges[-1] < count + 1:
        edges.append(min(2 * edges[-1], count + 1))
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]


def _by_query(found: Found) -> Grid:
    blocks = query_blocks(len(found["texts"][0]["uniform"]))
    rows = []
    for each in found["texts"]:
        by_query = np.array(each["by_query"])
        rows.append([named(found, each), each["begins"], *_means(by_query, blocks)])
    uniform = np.array(found["texts"][0]["uniform"])
    rows.append(["", "uniform", *_means(uniform, blocks)])
    names = [f"{a + 1}" if b == a + 1 else f"{a + 1}-{b}" for a, b in blocks]
    return Grid(
        ("name", "row", *names),
        rows,
        "Mean weight of the first token over layers and heads, by where in its piece the query "
        "stands (the first token is 1).",
    )


def _means(values: np.ndarray, blocks: list[tuple[int, int]]) -> list[str]:
    return [f"{values[a - 1 : b - 1].mean():.3f}" for a, b in blocks]


def _windows(found: Found) -> Grid:
    whole, *cases = found["windows"]
    kept = sorted({each["first"] for each in cases})
    losses = {(each["window"], each["first"]): each["loss"] for each in cases}
    rows = [
        [f"window {window}", *(f"{losses[window, first]:.3f}" for first in kept)]
        for window in dict.fromkeys(each["window"] for each in cases)
    ]
    rows.append(["everything", *(f"{whole['loss']:.3f}" for _ in kept)])
    return Grid(
        ("name", *(f"first {first} kept" for first in kept)),
        rows,
        f"Loss in nats per token of {found['length']:,} tokens of {found['texts'][0]['text']}, in "
        "windows of so many keys with so many first tokens that stay visible. Nothing is trained.",
    )


def write_pictures(found: Found, directory: Path) -> list[Path]:
    """Write the pictures as SVG files into ``directory``; returns their paths."""
    pictures = {"heads": head_map(found), "queries": query_curves(found)}
    if _has_windows(found):
        pictures["windows"] = window_curves(found)
    paths = []
    for name, svg in pictures.items():
        paths.append(directory / f"{name}.svg")
        write_atomically(paths[-1], on_paper(svg).encode(), "figure")
    return paths


def head_map(found: Found) -> str:
    """Draw the first token's weight by layer and head, a panel for each text and beginning."""
    texts = found["texts"]
    columns = min(3, len(texts))
    rows = -(-len(texts) // columns)
    sizes = {np.array(each["weight"]).shape for each in texts}
    layers = max(own for own, _ in sizes)
    size = (1.2 + 2.6 * columns, rows * (1.6 + 0.085 * layers))
    with mpl.rc_context(STYLE):
        figure, grid = plt.subplots(
            rows, columns, figsize=size, squeeze=False, sharey=len(sizes) == 1, layout="constrained"
        )
        panels = list(grid.T.flat) if rows > 1 else list(grid.flat)
        image: Any = None
        for axes, each in zip(panels, texts, strict=False):
            weight = np.array(each["weight"])
            own, heads = weight.shape
            image = axes.imshow(
                weight, vmin=0, vmax=1, cmap="viridis", aspect="auto", origin="lower",
                extent=(0.5, heads + 0.5, 0.5, own + 0.5),
            )  # fmt: skip
            axes.set_title(f"{named(found, each)},\n{each['begins']}", fontsize=9)
            axes.set_xlabel("head")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in grid[:, 0]:
            axes.set_ylabel("layer")
        for axes in panels[len(texts) :]:
            axes.set_visible(False)
        figure.colorbar(image, ax=list(grid.flat), label="weight of the first token")
        return as_svg(figure, tight=False)


def query_curves(found: Found) -> str:
    """Draw the first token's weight by the query's position, beside the uniform one."""
    blocks = query_blocks(len(found["texts"][0]["uniform"]))
    middles = [np.sqrt((a + 1) * b) for a, b in blocks]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 4.2))
        for index, each in enumerate(found["texts"]):
            by_query = np.array(each["by_query"])
            name = f"{named(found, each)}, {each['begins']}"
            means = [by_query[a - 1 : b - 1].mean() for a, b in blocks]
            axes.plot(middles, means, label=name, marker=".", **line_style(index))
        uniform = np.array(found["texts"][0]["uniform"])
        means = [uniform[a - 1 : b - 1].mean() for a, b in blocks]
        axes.plot(middles, means, label="uniform", color=INK, linewidth=1, linestyle=":")
        axes.set_xscale("log", base=2)
        axes.set_xticks([2**n for n in range(1, len(blocks) + 1)])
        axes.set_xticklabels([str(2**n) for n in range(1, len(blocks) + 1)])
        axes.set_ylim(0, 1)
        axes.set_xlabel("position of the query")
        axes.set_ylabel("mean weight of the first token")
        legend(axes, len(found["texts"]) + 1)
        return as_svg(figure)


def window_curves(found: Found) -> str:
    """Draw the loss by window, a line for each number of first tokens kept."""
    whole, *cases = found["windows"]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 4.2))
        for index, first in enumerate(sorted({each["first"] for each in cases})):
            mine = [each for each in cases if each["first"] == first]
            windows, losses = [c["window"] for c in mine], [c["loss"] for c in mine]
            axes.plot(windows, losses, label=f"first {first} kept", marker="o", **line_style(index))
        axes.axhline(whole["loss"], color=INK, linewidth=1, linestyle=":", label="everything")
        axes.set_xscale("log", base=2)
        ticks = sorted({each["window"] for each in cases})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("keys in the window")
        axes.set_ylabel("loss, nats per token")
        legend(axes, 4)
        return as_svg(figure)
