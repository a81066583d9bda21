"""Small plots of what came from one AE title: inline SVG without a style attribute, as the security policy asks."""

from typing import Any

from django import template
from django.template.defaultfilters import filesizeformat

from apps.nodes.queries import Bar, CallerTraffic, Span

register = template.Library()

STEP, WIDTH, HEIGHT = 4, 3, 40  # units of the view box: one bar with its gap, the bar, the plot


@register.inclusion_tag("nodes/admin/plot.html")
def plot(traffic: CallerTraffic, span: Span, name: str, title: str) -> dict[str, Any]:
    """Bars of one number of `Bar`, the highest of them as high as the plot."""
    values = [getattr(bar, name) for bar in traffic.bars]
    highest = max(values)
    return {
        "title": title,
        "name": name,
        "is_bad": name in ("rejections", "refusals"),
        "path": bars_path(values),
        "box": f"0 0 {STEP * len(values)} {HEIGHT}",
        "highest": _number(name, highest),
        "has_any": highest > 0,
        "bar_title": span.bar_title,
        "start": traffic.bars[0].start,
    }


def bars_path(values: list[int]) -> str:
    """One SVG path for all bars; what is not zero is at least one unit high."""
    highest = max(values, default=0)
    heights = [max(1, round(value / highest * HEIGHT)) if value else 0 for value in values]
    return "".join(
        f"M{STEP * place} {HEIGHT}v-{height}h{WIDTH}v{height}z" for place, height in enumerate(heights) if height
    )


@register.filter
def with_something(bars: list[Bar]) -> list[Bar]:
    """Bars in which something happened, the newest first."""
    return [bar for bar in reversed(bars) if not bar.is_empty]


def _number(name: str, value: int) -> str:
    return filesizeformat(value) if name == "size_bytes" else f"{value:,}"
