"""Biographies as text, for the text pipeline: a file of JSON lines, which `sbp corpus` reads.

`python -m toy_worlds.knowledge.biography_corpus FILE.jsonl --num-concepts 50` writes one; `--help` lists the
rest. Its texts are short: `sbp corpus` leaves out those below `--min-chars`.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import SbpError
from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.base.store import write_text
from toy_worlds.knowledge.biographies import Biographies

PARAMETERS = (
    "num_concepts",
    "num_attributes",
    "num_values",
    "num_stated",
    "num_templates",
    "num_names",
    "seed",
)
"""Whole numbers of the world that the command takes."""


def write_biographies(world: Biographies, path: Path, documents_per_concept: int, seed: int) -> int:
    """Write some biographies of every person to `path`, in random order, and return how many.

    A line has `id`, `text`, and `label`, the person: the name, with a number behind it for all namesakes but
    the first. So a pairing can be scored by whether it finds documents of one person.

    Raises:
        ConfigError: `documents_per_concept` is below 1.
        StoreError: `path` cannot be written.
    """
    require(documents_per_concept >= 1, "documents_per_concept", documents_per_concept, "at least 1")
    generator = torch_generator(seed, "biography corpus")
    c_N = torch.arange(world.num_concepts).repeat_interleave(documents_per_concept)
    c_N = c_N[torch.randperm(len(c_N), generator=generator)]
    names = world.grammar.names
    lines = []
    for number, (c, document) in enumerate(zip(c_N.tolist(), world.sample(c_N, generator), strict=True)):
        namesake = c // len(names) + 1
        label = names[c % len(names)] + (f" {namesake}" if namesake > 1 else "")
        record = {"id": f"biography:{number}", "text": world.to_text(document), "label": label}
        lines.append(json.dumps(record) + "\n")
    write_text(path, "".join(lines))
    return len(lines)


def main(arguments: Sequence[str]) -> int:
    """Write the file that the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m toy_worlds.knowledge.biography_corpus", description="Write biographies as JSON lines."
    )
    parser.add_argument("path", type=Path, help="file to write, FILE.jsonl")
    parser.add_argument("--documents-per-concept", type=int, default=60, help="of each person (default 60)")
    parser.add_argument("--noise", type=float, default=0.02, help="share of random values (default 0.02)")
    defaults = inspect.signature(Biographies).parameters
    for name in PARAMETERS:
        default = defaults[name].default
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=default, help=f"default {default}"
        )
    options = parser.parse_args(arguments)
    try:
        world = Biographies(noise=options.noise, **{name: getattr(options, name) for name in PARAMETERS})
        number = write_biographies(world, options.path, options.documents_per_concept, options.seed)
    except SbpError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    print(f"{number:,} biographies of {world.num_concepts:,} persons in {options.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
