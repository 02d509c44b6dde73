"""The card of an exported data set: README.md as the Hugging Face hub reads it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import sbp_bayes
from sbp_bayes.base.stage import Manifest

README = "README.md"

Quality = Callable[[], Mapping[str, Mapping[str, float]]]
"""Returns measure → {"synthetic": …, "real": …}; called once the data are written."""

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
         (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))  # fmt: skip
LARGEST = "n>1B"

ABOUT = """\
Documents written by a language model, by Synthetic Bootstrapped Pretraining
([arXiv 2509.15248](https://arxiv.org/abs/2509.15248)): a synthesizer p(d2|d1), tuned on pairs of related real
documents, read a real seed document d1 and wrote a new document d2. The text was not checked by a person; it
may be wrong, and it may repeat what its seed document says."""

COLUMNS = {
    "synthetic": """\
- `id`, `text`: the document.
- `seed_document`: id of the real document d1 that the model had read; none where it had read none.
- `sample`: number of the sample, counted before the screen dropped some.
- `model`: fingerprint of the model that wrote it.
- `similarity`: cosine of the document with its seed document, by the embedder that found the pairs; none
  where no pairs were given.
- `num_tokens`: its length; `complete`: whether the model ended it, before the limit.""",
    "pairs": """\
- `id`: number of the pair; `seed_document`, `seed_text`: id and text of d1.
- `document`, `text`: id and text of d2; both documents are real.
- `similarity`: cosine of the two.""",
}


def data_card(
    license: str, data_format: str, rows: Mapping[str, int], samples: Manifest, quality: Quality | None
) -> str:
    """Return the card.

    Args:
        license: identifier of the licence.
        data_format: ending of the files that `datasets` reads.
        rows: number of rows by table; the first table is what is loaded by default.
        samples: the synthesis that is exported.
        quality: measures of synthetic and real text; None: there are no pairs to measure by.
    """
    measured = None if quality is None else quality()
    sections = [
        _front_matter(license, data_format, rows),
        "# Synthetic documents",
        ABOUT,
        *(f"## `{name}`\n{number:,} rows. Columns:\n\n{COLUMNS[name]}" for name, number in rows.items()),
        "## Counts\nOf the synthesis, before and after its screen:\n\n" + _table(_leaves(samples.counts)),
        "## Quality\n" + _quality(measured),
        "## Settings\n" + _table(_leaves(samples.config)),
        "## Provenance\n" + _table([*samples.inputs.items(), ("sbp_bayes", sbp_bayes.__version__)]),
        f"## Licence\n{_licence(license)}",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(license: str, data_format: str, rows: Mapping[str, int]) -> str:
    size = next((name for most, name in SIZES if sum(rows.values()) < most), LARGEST)
    lines = ["---", f"license: {license}", "task_categories:", "- text-generation", "tags:", "- synthetic"]
    lines += ["size_categories:", f"- {size}", "configs:"]
    for number, name in enumerate(rows):
        lines += [f"- config_name: {name}", f"  data_files: {name}/*.{data_format}"]
        lines += ["  default: true"] * (number == 0)
    return "\n".join([*lines, "---"])


def _quality(measured: Mapping[str, Mapping[str, float]] | None) -> str:
    if measured is None:
        return "Not measured: the real pairs were not given."
    lines = ["| measure | synthetic | real |", "|---|---|---|"]
    lines += [f"| {name} | {x['synthetic']:.4g} | {x['real']:.4g} |" for name, x in measured.items()]
    return "Real text by the same measures stands beside it:\n\n" + "\n".join(lines)


def _licence(license: str) -> str:
    if license == "unknown":
        return (
            "Not chosen. It depends on the real documents, and on the licence of the model that wrote these."
        )
    return f"`{license}`."


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in rows)])


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text.replace("|", "\\|")


def _leaves(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{within}.{key}" if within else key
        if isinstance(value, Mapping):
            yield from _leaves(value, name)
        else:
            yield name, ", ".join(map(str, value)) if isinstance(value, list) else value
