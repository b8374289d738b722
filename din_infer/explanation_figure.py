"""The paper's picture of activation weights (DIN, arXiv 1706.06978, figure 5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from din_infer.errors import InputError
from din_infer.explanation import Explanation
from din_infer.extras import require


def draw_weights(explanation: Explanation, most: int, path: Path) -> None:
    """A row per candidate, a column per behaviour, coloured by weight: at most `most` behaviours of each history.

    Raises InputError for a path whose ending stands for no kind of picture.
    """
    require("matplotlib", "bench")
    from matplotlib.colors import CenteredNorm, Normalize
    from matplotlib.figure import Figure

    drawn = [(h, h.most_telling(most)) for h in explanation.histories if h.behaviours and explanation.candidates]
    columns = max((len(chosen) for _, chosen in drawn), default=1)
    size = (3.2 + 0.55 * columns, (1.9 + 0.45 * len(explanation.candidates)) * max(len(drawn), 1) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    kinds = figure.canvas.get_supported_filetypes()
    if path.suffix and path.suffix[1:].lower() not in kinds:
        raise InputError(f"{path}: expected a name that ends with .{', .'.join(kinds)}, got {path.name!r}")
    panels = figure.subplots(max(len(drawn), 1), 1, squeeze=False)[:, 0]
    for axis, (history, chosen) in zip(panels, drawn, strict=False):
        values = history.weights[:, chosen]
        signed = bool((values < 0).any())
        norm = CenteredNorm() if signed else Normalize(0, float(values.max(initial=1e-9)))
        image = axis.imshow(values, cmap="RdBu_r" if signed else "Reds", norm=norm, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            dark = abs(value) > 0.6 * float(np.abs(values).max())
            axis.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=6, color="w" if dark else "k")
        labels = [_short(history.behaviours[t]) for t in chosen]
        # parse_math: two dollar signs in a name would make a formula of what is between them.
        axis.set_xticks(range(len(chosen)), labels, rotation=40, ha="right", fontsize=7, parse_math=False)
        names = zip(explanation.candidates, explanation.scores, strict=True)
        labels = [f"{_short(name)}  {score:.2f}" for name, score in names]
        axis.set_yticks(range(len(values)), labels, fontsize=8, parse_math=False)
        title = f"request {explanation.key}, {history.history}: weights of behaviours, in the order given"
        axis.set_title(title, fontsize=9, loc="left", parse_math=False)
        figure.colorbar(image, ax=axis, shrink=0.8)
    if not drawn:
        panels[0].set_axis_off()
        panels[0].text(0.5, 0.5, f"no {'behaviours' if explanation.candidates else 'candidates'}", ha="center")
    figure.savefig(path, dpi=140)


def _short(name: str, most: int = 30) -> str:
    name = " ".join(name.split())
    return name if len(name) <= most else name[: most - 3] + "..."
