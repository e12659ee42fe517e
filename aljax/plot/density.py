"""Large maps by density: so many points that drawing each would hide how many."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from aljax.checks import optional
from aljax.plot.color import COLORMAP, PLAIN, UNKNOWN, Coloring

LARGE = 50_000  # points
PIXELS = 300  # per inch


def is_dense(points: int, density: bool | None) -> bool:
    """Whether to draw by density: as asked, else above 50,000 points."""
    return points > LARGE if density is None else density


def shade(panel: Axes, points: np.ndarray, coloring: Coloring, t: int) -> None:
    """Draw a map as an image, whose opacity is how many points lie in a pixel.

    Raises:
        ImportError: datashader is not installed.
    """
    import pandas

    datashader = optional("datashader", "plot")
    shading = optional("datashader.transfer_functions", "plot")
    box = panel.get_window_extent()
    inches = max(box.width, box.height) / panel.figure.dpi
    # Finer pixels than the points can fill would be too faint to see.
    side = int(np.clip(2 * len(points) ** 0.5, 200, inches * PIXELS))
    xlim, ylim = panel.get_xlim(), panel.get_ylim()
    canvas = datashader.Canvas(side, side, x_range=xlim, y_range=ylim)
    table = pandas.DataFrame({"x": points[:, 0], "y": points[:, 1]})
    if coloring.codes is not None:
        # -1 becomes the last, unknown class.
        names = [*map(str, range(len(coloring.classes))), "unknown"]
        table["c"] = pandas.Categorical.from_codes(
            np.where(coloring.codes[t] < 0, len(names) - 1, coloring.codes[t]), names
        )
        hues = [to_hex(color) for color in coloring.palette]
        counted = canvas.points(table, "x", "y", datashader.count_cat("c"))
        key = dict(zip(names, [*hues, UNKNOWN], strict=True))
        image = shading.shade(counted, color_key=key, min_alpha=150)
    elif coloring.values is not None:
        from matplotlib import colormaps

        table["v"] = coloring.values[t]
        mean = canvas.points(table, "x", "y", datashader.mean("v"))
        image = shading.shade(
            mean, cmap=colormaps[COLORMAP], how="linear", span=coloring.limits
        )
    else:
        counted = canvas.points(table, "x", "y")
        image = shading.shade(counted, cmap=[PLAIN], min_alpha=100)
    image = shading.dynspread(image, threshold=0.6, max_px=3)
    pixels = np.asarray(image.to_pil())
    panel.imshow(pixels, extent=(*xlim, *ylim), aspect="equal", zorder=1)
