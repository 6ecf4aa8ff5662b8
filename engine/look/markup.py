"""HTML in which every text is escaped unless it was made here; and the style of the page."""

from __future__ import annotations

import html

from ..progress import printable

VOID = ("meta", "img")
"""Elements that have no end."""


class Markup(str):
    """Finished HTML."""

    __slots__ = ()


def tag(kind: str, /, *children: str, **attributes: str) -> Markup:
    """An element: children that are no Markup are texts, and so are attributes; `class_` is the attribute class."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    start = f"<{kind}{given}>"
    return Markup(start if kind in VOID else f"{start}{joined(*children)}</{kind}>")


def joined(*children: str) -> Markup:
    """One after the other."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(printable(child)) for child in children))


def document(title: str, *body: str) -> str:
    """A whole page that needs nothing but itself."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        Markup(f"<style>{STYLE}</style>"),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', tag('main', *body)), lang='en')}\n"


STYLE = """
:root { --page: #f6f5f2; --card: #ffffff; --ink: #1d1f24; --soft: #656a73; --line: #dfddd6; --bar: #b9c3d3; --chosen: #d8552b; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171b; --card: #1f2227; --ink: #e9e8e4; --soft: #9aa0aa; --line: #33373e; --bar: #4a5568; --chosen: #f08a4b; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 4px; font-weight: 650; }
h3 { font-size: 15px; margin: 0; font-weight: 650; overflow-wrap: anywhere; }
p { margin: 6px 0 0; }
.facts, .soft { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 18px; margin-top: 22px; align-items: stretch; }
.cards.alone { max-width: 420px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px; margin: 0; }
.card > img { display: block; width: 100%; border-radius: 7px; margin-bottom: 12px; outline: 1px solid var(--line); }
.card .said { font-size: 13.5px; color: var(--soft); }
.card .said b { color: var(--ink); }
.scale { display: grid; grid-template-columns: 1fr auto 1fr; font-size: 12px; color: var(--soft); margin: 8px 0 2px; }
.scale img { grid-column: 1 / -1; width: 100%; height: 10px; border-radius: 5px; display: block; margin-bottom: 3px; }
.scale span:last-child { text-align: right; }
.bars { display: grid; gap: 7px; margin-top: 8px; }
.bar { font-size: 13.5px; }
.bar div { display: flex; justify-content: space-between; gap: 12px; }
.bar span:last-child { font-variant-numeric: tabular-nums; flex: none; }
.bar i { display: block; height: 7px; border-radius: 4px; background: var(--bar); min-width: 2px; margin-top: 2px; }
.bar.chosen span { font-weight: 650; }
.bar.chosen i { background: var(--chosen); }
.tiles { display: grid; gap: 8px; margin: 12px 0 0; }
.tiles figure { margin: 0; }
.tiles img { display: block; width: 100%; border-radius: 4px; }
img.sharp { image-rendering: pixelated; }
.tiles figcaption { font-size: 11px; color: var(--soft); text-align: center; font-variant-numeric: tabular-nums; }
.kernels { grid-template-columns: repeat(auto-fill, minmax(52px, 1fr)); }
.maps { grid-template-columns: repeat(auto-fill, minmax(82px, 1fr)); }
.maps.wide { grid-template-columns: repeat(auto-fill, minmax(172px, 1fr)); }
.layer { margin-top: 14px; }
.layer header { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 2px 16px; align-items: baseline; }
.note { border-left: 4px solid var(--chosen); padding: 8px 14px; background: var(--card); margin-top: 20px; border-radius: 0 8px 8px 0; }
.legend { max-width: 320px; }
""".strip()
