"""The chart of a report: bytes on the left, tokens on the right, the total above, sessions below."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.domain.errors import ValidationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ENDINGS", "Bar", "Panel", "Picture"]

ENDINGS = (".svg", ".png")

_BEFORE, _AFTER, _TEXT, _LINE = "#a8b0ba", "#1f6fb2", "#1c2127", "#d7dbe0"
_LONGEST = 30
_DOTS_PER_INCH = 144
_THICK = 0.36
_STYLE = {
    "font.family": ["DejaVu Sans", "sans-serif"],  # matplotlib ships the first one
    "font.size": 9.0,
    "text.color": _TEXT,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "svg.fonttype": "none",  # text stays text: it can be searched, and be in any script
    "svg.hashsalt": "luminora",
}


@attrs.frozen
class Bar:
    """Two sizes of one session, or of all.

    Attributes:
        name: Any text.
        before: The size as JSON.
        after: The size as it is stored or sent.
    """

    name: str
    before: int
    after: int


@attrs.frozen(kw_only=True)
class Panel:
    """One half of a chart.

    Attributes:
        title: What is counted.
        before: Legend of the grey bars.
        after: Legend of the blue bars.
        total: The sum of everything that was measured.
        sessions: The largest sessions, the largest first; at least one.
        shown: Caption of the sessions.
    """

    title: str
    before: str
    after: str
    total: Bar
    sessions: Sequence[Bar]
    shown: str


class Picture:
    """Draw panels side by side into a file; equal panels give equal bytes.

    Args:
        path: A file name that ends with ``.svg`` or ``.png``.

    Raises:
        ValidationError: The name has another ending, or the folder does not exist.
        MissingDependencyError: The ``report`` extra is not installed.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in ENDINGS:
            raise ValidationError(f"{path}: the name of a picture must end with {' or '.join(ENDINGS)}")
        if not path.parent.is_dir():
            raise ValidationError(f"{path.parent}: no such folder")
        self._path = path
        self._matplotlib: Any = import_extra(
            "matplotlib", needed_by="luminora optimize report --picture", extra="report"
        )

    def draw(self, heading: str, panels: Sequence[Panel]) -> None:
        """Draw the chart and write the file.

        Args:
            heading: Any text.
            panels: One or more, with the same number of sessions each.

        Raises:
            OSError: The file cannot be written.
        """
        import warnings  # noqa: PLC0415

        drawn = BytesIO()
        with self._matplotlib.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a missing glyph is drawn as a box
            self._matplotlib.rcdefaults()  # ignore the user's settings
            self._matplotlib.rcParams.update(_STYLE)
            figure = _figure(heading, panels)
            kind = self._path.suffix.lower().removeprefix(".")
            unsigned = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
            figure.savefig(drawn, format=kind, dpi=_DOTS_PER_INCH, metadata=unsigned)
        self._path.write_bytes(drawn.getvalue())


def _figure(heading: str, panels: Sequence[Panel]) -> Any:
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415  # an extra

    sessions = max(len(panel.sessions) for panel in panels)
    above, below = 1.25, 0.7 + 0.42 * sessions
    size = 6.2 * len(panels), 0.75 + above + below
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.06))
    figure.suptitle(_label(heading, 40 * len(panels)), fontsize=12, fontweight="bold", parse_math=False)
    axes = figure.subplots(2, len(panels), squeeze=False, height_ratios=[above, below])
    for panel, (total, each) in zip(panels, axes.T, strict=True):
        _draw(total, [panel.total], panel)
        total.set_title(panel.title, loc="left", fontsize=11, pad=24, parse_math=False)
        total.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, borderpad=0, handlelength=1.2)
        _draw(each, panel.sessions, panel)
        each.set_title(panel.shown, loc="left", fontsize=9, parse_math=False)
    return figure


def _draw(axes: "Axes", bars: Sequence[Bar], panel: Panel) -> None:
    """Draw a pair of bars per item, the first one on top."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter  # noqa: PLC0415  # an extra

    places = range(len(bars))
    before = [bar.before for bar in bars]
    after = [bar.after for bar in bars]
    axes.barh([place - _THICK / 2 for place in places], before, _THICK, color=_BEFORE, label=panel.before)
    axes.barh([place + _THICK / 2 for place in places], after, _THICK, color=_AFTER, label=panel.after)
    for place, bar in zip(places, bars, strict=True):
        _write(axes, bar.before, place - _THICK / 2, f"{bar.before:,}")
        part = f" ({bar.after / bar.before:.0%})" if bar.before else ""
        _write(axes, bar.after, place + _THICK / 2, f"{bar.after:,}{part}")
    axes.set_yticks([*places], [_label(bar.name) for bar in bars], parse_math=False)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(0, 1.28 * max(1, *before, *after))  # room for the numbers next to the bars
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _write(axes: "Axes", end: int, place: float, text: str) -> None:
    axes.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8)


def _label(name: str, longest: int = _LONGEST) -> str:
    """Return a name for drawing: on one line, shortened, with invisible characters escaped."""
    seen = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in name)
    begin = longest * 2 // 3
    return seen if len(seen) <= longest else f"{seen[:begin]}…{seen[begin + 1 - longest :]}"
