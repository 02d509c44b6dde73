"""The frame of the report: a self-contained HTML page, its style sheet, and safe small parts of it."""

import re
from collections.abc import Iterable, Sequence
from html import escape as _escape

from sbp_bayes.arms import ARMS, MUTED

MISSING = "–"

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1d21; --muted: #5f656e; --rule: #d9dce0;
  --wash: #f5f6f7; }
@media (prefers-color-scheme: dark) { :root { --paper: #14161a; --ink: #e9eaec; --muted: #a3a9b2;
  --rule: #363b43; --wash: #1d2025; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55; font-size: 17px;
  font-family: Charter, "Bitstream Charter", "Iowan Old Style", Cambria, Georgia, "Liberation Serif", serif; }
main { max-width: 66rem; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; }
h1, h2, h3, table, figcaption, .label, .glance, .plot, summary, dl { font-family: system-ui, -apple-system,
  "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1rem; font-weight: 600; color: var(--muted); margin: 0 0 1.2rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3.6rem 0 .6rem; padding-top: 1.1rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 2rem 0 .5rem; }
p, figcaption { max-width: 44rem; margin: .6rem 0; }
.headline { font-size: 1.72rem; line-height: 1.32; max-width: 50rem; margin: 0 0 .9rem; text-wrap: pretty; }
.note, figcaption { color: var(--muted); font-size: .86rem; }
figure { margin: 1.4rem 0; }
.plot svg { display: block; width: 100%; height: auto; overflow: visible; }
.plot svg * { stroke-linejoin: round; stroke-linecap: butt; }
.plot .narrow { display: none; }
figure.beside { display: grid; grid-template-columns: 3fr 2fr; gap: 1.5rem 2rem; align-items: center; }
.halves { display: grid; grid-template-columns: 1fr 1fr; gap: 0 2.5rem; align-items: start; }
.halves > * { min-width: 0; }
.glance { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1rem 1.5rem; margin: 2rem 0 0;
  padding: 0; }
.glance div { border-top: 2px solid var(--ink); padding-top: .55rem; }
.glance dt { font-size: .8rem; color: var(--muted); line-height: 1.35; }
.glance dd { margin: .1rem 0 0; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.glance dd small { display: block; font-size: .8rem; font-weight: 400; color: var(--muted); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0 .5rem; }
th, td { text-align: right; padding: .42rem 0 .42rem 1.2rem; vertical-align: baseline; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { font-weight: 600; color: var(--muted); border-bottom: 1px solid var(--ink); }
tbody th { font-weight: 400; }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
tbody tr.group > th { font-weight: 600; padding-top: 1.3rem; border-top: 0; }
tbody tr.total > * { font-weight: 600; }
td small { display: block; color: var(--muted); font-size: .92em; white-space: nowrap; }
.ledger td { white-space: nowrap; }
.comparison { font-size: .95rem; }
.arm { white-space: nowrap; }
.arm::before { content: ""; display: inline-block; width: .62em; height: .62em; border-radius: 50%;
  margin-right: .45em; background: var(--muted); }
.texts { display: grid; gap: 1.2rem; margin: 1rem 0 1.8rem; }
.texts.three { grid-template-columns: repeat(3, 1fr); } .texts.two { grid-template-columns: repeat(2, 1fr); }
.texts > * { background: var(--wash); border-radius: 6px; padding: .9rem 1rem; min-width: 0; }
.texts .synthetic { border-top: 3px solid var(--sbp); } .texts .real { border-top: 3px solid var(--muted); }
.label { font-size: .8rem; color: var(--muted); margin: 0 0 .6rem; line-height: 1.4;
  overflow-wrap: anywhere; }
.label b { color: var(--ink); display: block; font-size: .9rem; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; font-size: .88rem;
  line-height: 1.5;
  unicode-bidi: plaintext; tab-size: 4; }
mark { color: inherit; background: none; border-radius: 2px; }
mark.first { background: color-mix(in srgb, var(--sbp) 30%, transparent); }
mark.unique { border-bottom: 2px solid var(--muted); }
.config td, .config th { text-align: left; overflow-wrap: anywhere; }
.config td { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: .82rem; }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; font-size: .95rem; }
:focus-visible { outline: 2px solid var(--sbp); outline-offset: 3px; }
@media (max-width: 760px) {
  main { padding: 1.8rem 1.1rem 3rem; } body { font-size: 16px; } .headline { font-size: 1.32rem; }
  .halves, .texts.three, .texts.two, figure.beside { grid-template-columns: 1fr; }
  .glance { grid-template-columns: 1fr 1fr; } .plot .wide { display: none; } .plot .narrow { display: block; }
  th, td { padding-left: .8rem; }
  .comparison thead { display: none; } .comparison tr { display: grid; grid-template-columns: 1fr 1fr;
    gap: 0 1rem; }
  .comparison tr > th:first-child { grid-column: 1 / -1; font-weight: 600; padding: .8rem 0 0; }
  .comparison tbody tr.group > th { padding-top: 1.6rem; font-size: 1.02rem; }
  .comparison tr > td { text-align: left; padding: .3rem 0 .4rem; border: 0; }
  .comparison td:empty { display: none; }
  .comparison td::before { content: attr(data-label); display: block; color: var(--muted); font-size: .8rem; }
}
@media print { body { font-size: 11pt; } details > * { display: block; } }
"""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def escaped(text: object) -> str:
    """Return `text` for use in HTML; characters that HTML can't hold become U+FFFD."""
    return _escape(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text)))


def page(title: str, body: str) -> str:
    """Return a whole document: nothing in it refers to anything outside it."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{STYLE}{_arm_colours()}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Return a section; `parts` are HTML."""
    return f"<section>\n<h2>{escaped(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{_prose(text)}</p>"


def figure(plot: str, caption: str, kind: str = "") -> str:
    """Return a plot (HTML) with its caption (plain text); of the kind "beside", next to each other."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<figure{attribute}>{plot}<figcaption>{_prose(caption)}</figcaption></figure>"


def table(columns: Sequence[str], body: Iterable[str], *, name: str, kind: str = "") -> str:
    """Return a table that scrolls sideways where it is too wide; `body` holds rows of HTML."""
    head = "".join(f'<th scope="col">{escaped(column)}</th>' for column in columns)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(name)}"><table class="{kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def row(heading: str, cells: Iterable[str], kind: str = "") -> str:
    """Return a row of plain text: a heading and its cells."""
    return html_row(escaped(heading), (f"<td>{escaped(cell)}</td>" for cell in cells), kind)


def html_row(heading: str, cells: Iterable[str], kind: str = "") -> str:
    """Return a row; heading and cells are HTML."""
    attribute = f' class="{kind}"' if kind else ""
    return f'<tr{attribute}><th scope="row">{heading}</th>{"".join(cells)}</tr>'


def group_row(title: str, num_columns: int) -> str:
    """Return a row that names the rows below it."""
    return f'<tr class="group"><th scope="rowgroup" colspan="{num_columns}">{escaped(title)}</th></tr>'


def _prose(text: str) -> str:
    return escaped(text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}"))


def _arm_colours() -> str:
    """Return the style of the arms that have a colour of their own, on light and on dark ground."""
    own = {name: arm.colour for name, arm in ARMS.items() if arm.colour != MUTED}
    light, dark = (" ".join(f"--{name}: {own[name][ground]};" for name in own) for ground in (0, 1))
    marks = "\n".join(f".arm.{name}::before {{ background: var(--{name}); }}" for name in own)
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{marks}\n"


def arm_mark(arm: str, name: str) -> str:
    """Return the name of an arm with its colour's mark."""
    return f'<span class="arm {escaped(arm)}">{escaped(name)}</span>'


Mark = tuple[int, int, str]
"""Characters of a text from the first to behind the last, and the kind of mark."""


def text_box(title: str, detail: str, text: str, kind: str, marks: Sequence[Mark] = ()) -> str:
    """Return a document as it is, whitespace kept, under its title; `kind` is "real" or "synthetic".

    `marks` are in order and do not overlap.
    """
    parts, at = [], 0
    for start, end, name in marks:
        parts += [escaped(text[at:start]), f'<mark class="{escaped(name)}">{escaped(text[start:end])}</mark>']
        at = end
    return (
        f'<article class="{kind}"><p class="label"><b>{escaped(title)}</b>{escaped(detail)}</p>'
        f'<pre dir="auto">{"".join(parts)}{escaped(text[at:])}</pre></article>'
    )


def marked(name: str, words: str) -> str:
    """Return words of a legend with their mark."""
    return f'<mark class="{escaped(name)}">{escaped(words)}</mark>'
