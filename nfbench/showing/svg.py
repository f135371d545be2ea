"""A figure as SVG that can stand inside a page: text as text, ids of its own, colours that the page's theme sets.

Colours become classes, ``f-0072b2`` to fill and ``s-0072b2`` to draw with: a page that forbids inline styles shows
them, and turns them around on a dark ground.
"""

from __future__ import annotations

import colorsys
import io
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.colors import to_hex
from matplotlib.text import Text

from nfbench.showing.figures.canvas import looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_HALO = "halo-"
_LONG = re.compile(r"-?\d+\.\d{3,}")
SCALE = 1.6
"""Pixels of a point: the smallest text of a figure, of 6 to 7 points, is that of a page's notes."""
DARK = "#15181d"
"""The ground of a dark page: what is white on paper."""


def inline(figure: Figure, prefix: str, title: str, description: str) -> tuple[str, set[str]]:
    """The figure as an ``svg`` element whose ids begin with ``prefix``, and the colours in it, "#rrggbb".

    Its name and description are for whom cannot see it. Nothing in it loads, runs or styles anything else.

    Raises:
        ValueError: something in the figure was drawn as an image, which the page's policy does not show.
    """
    root = ElementTree.fromstring(_drawn(figure))
    if root.find(f".//{{{_SVG}}}image") is not None:
        raise ValueError(f"{title}: the figure holds an image, which no page shows: draw it as lines and areas")
    colours: set[str] = set()
    for parent in list(root.iter()):
        for child in list(parent):
            # the page forbids them, and its own do what they did
            if child.tag in (f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"):
                parent.remove(child)
        if parent.get("id", "").startswith(_HALO):
            for text in parent.iter(f"{{{_SVG}}}text"):
                text.attrib |= {"stroke": "#ffffff", "stroke-width": "2", "paint-order": "stroke"}
        _own(parent, prefix, colours)
    width, height = (float(root.attrib[name].removesuffix("pt")) for name in ("width", "height"))
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": f"{width * SCALE:.0f}",
        "height": f"{height * SCALE:.0f}",
        # where a page gives it another shape it stays at the left
        "preserveAspectRatio": "xMinYMid meet",
        "class": "plot",
        "role": "img",
        "aria-labelledby": f"{prefix}title {prefix}description",
        "stroke-linejoin": "round",
    }
    named = ElementTree.Element(f"{{{_SVG}}}title", {"id": f"{prefix}title"})
    described = ElementTree.Element(f"{{{_SVG}}}desc", {"id": f"{prefix}description"})
    named.text, described.text = title, description
    root.insert(0, named)
    root.insert(1, described)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode"), colours


def _drawn(figure: Figure) -> str:
    """The figure as matplotlib writes it, its texts as texts: those with a halo it would draw letter by letter."""
    halos = [text for text in figure.findobj(Text) if text.get_path_effects()]
    kept = [(text.get_path_effects(), text.get_gid()) for text in halos]
    made = io.StringIO()
    try:
        for place, text in enumerate(halos):
            text.set_path_effects([])
            text.set_gid(f"{_HALO}{place}")
        with looks(), rc_context({"svg.fonttype": "none"}):
            figure.savefig(made, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    finally:
        for text, (effects, gid) in zip(halos, kept, strict=True):
            text.set_path_effects(effects)
            text.set_gid(gid)
    return made.getvalue()


def _own(element: ElementTree.Element, prefix: str, colours: set[str]) -> None:
    """Give an element ids of its own, and its style as attributes."""
    attributes = element.attrib
    style = [part.partition(":") for part in attributes.pop("style", "").split(";") if ":" in part]
    for name, _, value in style:
        attributes.setdefault(name.strip(), value.strip())
    if (font := attributes.pop("font", None)) is not None:
        # only an attribute of its own each is one of SVG's
        size = re.search(r"([\d.]+)px", font)
        attributes |= {"font-size": size[1]} if size else {}
        attributes |= {"font-weight": "bold"} if re.match(r"(?:\w+ )*(?:bold|[6-9]00)\b", font) else {}
    attributes.pop("font-family", None)
    classes = []
    for name, letter in (("fill", "f"), ("stroke", "s")):
        colour = attributes.get(name, "")
        if colour.startswith("#"):
            colours.add(hexed := to_hex(colour))
            classes.append(f"{letter}-{hexed[1:]}")
            del attributes[name]
        elif element.tag == f"{{{_SVG}}}text" and name == "fill" and not colour:
            colours.add("#000000")
            classes.append("f-000000")
    if classes:
        attributes["class"] = " ".join(classes)
    if "id" in attributes:
        attributes["id"] = prefix + attributes["id"]
    for name, value in attributes.items():
        if name == f"{{{_XLINK}}}href":
            # markers are all that a figure refers to
            attributes[name] = f"#{prefix}{value.removeprefix('#')}"
        elif "url(" in value:
            attributes[name] = _REFERENCE.sub(lambda found: f"url(#{prefix}{found[1]})", value)
        elif name in ("d", "x", "y", "transform", "points"):
            # a hundredth of a point is not seen
            attributes[name] = _LONG.sub(lambda found: f"{float(found[0]):.2f}", " ".join(value.split()))
    for white in ("text", "tail"):
        if not (getattr(element, white) or "").strip():
            setattr(element, white, None)


def themed(colours: Iterable[str]) -> list[tuple[str, str, str]]:
    """(name, colour on white, colour on `DARK`) of each: lightness is turned around, so that what was told apart from
    its ground still is. A colour that is seen well on white has a contrast of at least 4.5 there."""
    return [(colour[1:], colour, dark(colour)) for colour in sorted(set(colours))]


def dark(colour: str) -> str:
    """``colour`` for a dark ground."""
    if colour == "#ffffff":
        return DARK
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    wanted = 4.5 if contrast(colour, "#ffffff") > 2 else 1.0
    # from the ground's lightness up to a white that does not glare
    light = 0.1 + 0.83 * (1 - light)
    while contrast(found := _hex(hue, light, saturation), DARK) < wanted and light < 1:
        light = min(1.0, light + 0.02)
    return found


def _hex(hue: float, light: float, saturation: float) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, light, saturation))


def contrast(one: str, other: str) -> float:
    """How many times as bright the brighter of two colours is, as WCAG defines it: 1 to 21."""
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
