"""The page: what was found about a network and a picture, in the order in which one wants to see it."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence

import numpy as np

from .colours import heat, heat_strip, kernel_colours, magnified, map_colours, png
from .markup import Markup, document, joined, tag
from .picture import enlarged

LEAST = 320
"""Pixels of the short side of a shown picture, so that heat over a small one is smooth."""
SHARP = 160
"""Below this many pixels, each is shown as a square."""
KERNELS, FEW = 96, 16
"""How many kernels are shown at most, and how many are few enough to be large."""


@dc.dataclass(frozen=True)
class Prediction:
    """A class and how probable it is."""

    label: str
    probability: float
    explained: bool


@dc.dataclass(frozen=True)
class Heat:
    """Numbers over the picture, and what is said about them: texts and `tag(...)`."""

    title: str
    values: np.ndarray
    unit: str
    said: tuple[str, ...]


@dc.dataclass(frozen=True)
class Maps:
    """Feature maps (c, h, w) of a layer, and the channels to show."""

    layer: str
    operator: str
    values: np.ndarray
    channels: Sequence[int]


@dc.dataclass(frozen=True)
class Kernels:
    """The weights (k, c, h, w) of a layer; `colours`: its channels are red, green and blue."""

    layer: str
    weights: np.ndarray
    colours: bool


@dc.dataclass(frozen=True)
class Findings:
    """All that a page shows."""

    title: str
    facts: Sequence[str]
    pixels: np.ndarray
    predictions: Sequence[Prediction]
    heats: Sequence[Heat]
    kernels: Kernels | None
    maps: Sequence[Maps]
    notes: Sequence[str]


def page(found: Findings) -> str:
    """The whole page as HTML."""
    cards = [_seen(found.pixels, found.predictions), *(_heat_card(found.pixels, h) for h in found.heats)]
    return document(
        found.title,
        tag("h1", found.title),
        tag("p", " · ".join(found.facts), class_="facts"),
        *(tag("p", note, class_="note") for note in found.notes),
        tag("div", *cards, class_="cards" if found.heats else "cards alone"),
        *([_kernels(found.kernels)] if found.kernels else []),
        *(_layers(found.maps) if found.maps else []),
    )


def percent(share: float) -> str:
    """One digit after the point, and what is smaller as such."""
    return f"{share:.1%}" if share >= 0.001 else "< 0.1%"


def _seen(pixels: np.ndarray, predictions: Sequence[Prediction]) -> Markup:
    height, width = pixels.shape[:2]
    bars = tag("div", *map(_bar, predictions), class_="bars")
    said = tag("p", f"The picture as the network gets it, {width} × {height} pixels.", class_="said")
    heading = tag("h3", "Prediction" if predictions else "Picture")
    return tag("section", _image(pixels, "the picture"), heading, *([bars] if predictions else []), said, class_="card")


def _bar(prediction: Prediction) -> Markup:
    texts = tag("div", tag("span", prediction.label), tag("span", percent(prediction.probability)))
    bar = tag("i", style=f"width: {100 * prediction.probability:.2f}%")
    return tag("div", texts, bar, class_="bar chosen" if prediction.explained else "bar")


def _heat_card(pixels: np.ndarray, shown: Heat) -> Markup:
    shaped = magnified(pixels, LEAST)
    values = enlarged(shown.values, (shaped.shape[0], shaped.shape[1]))
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    largest = max(-low, high)
    picture = _image(heat(shaped, values, largest), shown.title)
    strip = tag("img", src=png(heat_strip(low, high)), alt="colour scale")
    scale = tag("div", strip, tag("span", f"{low:.3g}"), tag("span", shown.unit), tag("span", f"{high:.3g}"), class_="scale")
    return tag("section", picture, tag("h3", shown.title), scale, tag("p", *shown.said, class_="said"), class_="card")


def _kernels(found: Kernels) -> Markup:
    count, channels, height, width = found.weights.shape
    if found.colours:
        tiles = [(str(i), kernel_colours(w.transpose(1, 2, 0))) for i, w in enumerate(found.weights[:KERNELS])]
        how = "A colour stands for the weights of red, green and blue: it is what the kernel answers to."
    else:
        pairs = [(k, c) for k in range(count) for c in range(channels)][:KERNELS]
        tiles = [(str(k) if channels == 1 else f"{k}, {c}", kernel_colours(found.weights[k, c])) for k, c in pairs]
        how = "White is what the kernel answers to, black what it answers against."
    detail = f"{found.layer}: {count} kernels of {width} × {height} over {channels} channel{'s' if channels > 1 else ''}"
    shown = f", the first {len(tiles)} shown" if len(tiles) < count * (1 if found.colours else channels) else ""
    return joined(
        tag("h2", "What the first layer looks for"),
        tag("p", tag("b", detail), f"{shown}. {how} Each is scaled by its own largest weight.", class_="soft"),
        _legend(kernel_colours(np.linspace(-1, 1, 256)[None]), "−largest", "0", "largest"),
        tag("div", *(_tile(pixels, caption) for caption, pixels in tiles), class_="tiles kernels" if len(tiles) > FEW else "tiles maps"),
    )


def _layers(found: Sequence[Maps]) -> list[Markup]:
    how = (
        "The most active channels of some layers, in the order of the network. Each map is scaled from its smallest to its largest number."
    )
    legend = _legend(map_colours(np.linspace(0, 1, 256)[None]), "smallest", "", "largest")
    return [tag("h2", "What happens on the way"), tag("p", how, class_="soft"), legend, *map(_layer, found)]


def _layer(found: Maps) -> Markup:
    channels, height, width = found.values.shape
    silent = int((found.values == 0).all((1, 2)).sum())
    said = f"{channels} channels of {width} × {height}" + (f", {silent} of them silent" if silent else "")
    tiles = (_tile(map_colours(found.values[c]), str(c)) for c in found.channels)
    header = tag("header", tag("h3", found.layer), tag("span", f"{found.operator} · {said}", class_="soft"))
    return tag("section", header, tag("div", *tiles, class_="tiles maps wide" if width > 2 * height else "tiles maps"), class_="card layer")


def _tile(pixels: np.ndarray, caption: str) -> Markup:
    return tag("figure", _image(pixels, caption), tag("figcaption", caption))


def _legend(pixels: np.ndarray, *texts: str) -> Markup:
    return tag("div", tag("img", src=png(pixels), alt="colour scale"), *(tag("span", text) for text in texts), class_="scale legend")


def _image(pixels: np.ndarray, meaning: str) -> Markup:
    return tag("img", src=png(pixels), alt=meaning, class_="sharp" if max(pixels.shape[:2]) < SHARP else "smooth")
