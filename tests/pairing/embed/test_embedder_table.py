"""The table of embedders: one line makes an embedder that settings, the stage and messages know."""

import numpy as np
import pytest

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.cli import arguments
from sbp_bayes.corpus import Corpus, train_tokenizer
from sbp_bayes.pairing import EmbedderConfig, PairConfig, PairRules, PairSet, build_pairs
from sbp_bayes.pairing.embed.table import EMBEDDERS, EmbedderRow, embedder_device

TEXTS = ["one", "one two", "one two three four", "five one"]
CORPUS = Corpus.build(TEXTS, train_tokenizer(TEXTS, 300))


class ByLength:
    """Turns a vector by a document's number of characters, times a scale."""

    fingerprint, fit_flops = "by length", 0.0

    def __init__(self, scale):
        self.scale = float(scale)

    def embed(self, corpus):
        angles = self.scale * np.array([len(text) for text in corpus.texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def flops(self, corpus):
        return 0.0

    def num_truncated(self, corpus):
        return 0


@pytest.fixture
def add_row(monkeypatch):
    def add(argument):
        row = EmbedderRow(
            fit=lambda config, corpus, model, seed: ByLength(config.argument or 0.12),
            inputs=lambda config, model: {"embedder": f"scale {config.argument}"},
            argument=argument,
        )
        monkeypatch.setitem(EMBEDDERS, "length", row)

    return add


def test_a_line_of_the_table_is_an_embedder_of_the_stage(add_row, tmp_path):
    add_row("0.12")
    rules = PairRules(alpha=0.9, near_duplicate_containment=None)
    for kind, wanted, scale in (("length", {(1, 3), (3, 1)}, "0.12"), ("length:0.02", None, "0.02")):
        config = PairConfig(embedder=EmbedderConfig(kind=kind), rules=rules)
        manifest = build_pairs(config, CORPUS, tmp_path / scale)
        assert manifest.inputs["embedder"] == f"scale {scale}"
        pairs = PairSet.load(tmp_path / scale / "train")
        found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
        assert found == (wanted or {(i, j) for i in range(4) for j in range(4) if i != j})


@pytest.mark.parametrize(
    ("argument", "accepted", "refused"),
    [
        (None, ["length"], ["length:", "length:x"]),
        ("", ["length:x", "length:x:y"], ["length", "length:"]),
        ("x", ["length", "length:x"], ["length:"]),
    ],
)
def test_the_table_says_which_spellings_there_are(add_row, argument, accepted, refused):
    add_row(argument)
    for kind in accepted:
        assert EmbedderConfig(kind=kind).argument == (kind.partition(":")[2] or argument or "")
    for kind in refused:
        with pytest.raises(ConfigError, match=f"embedder = '{kind}': expected one of lsa, ") as raised:
            EmbedderConfig(kind=kind)
        shown = str(raised.value).split("expected one of ")[1].split(" (")[0].split(", ")
        assert [name for name in shown if name.startswith("length")] == [
            kind.replace(":x", ":FOLDER_OR_NAME") for kind in accepted if ":y" not in kind
        ]


def test_only_outside_models_read_a_number_of_tokens_and_use_a_gpu(add_row, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    add_row(None)
    assert embedder_device(EmbedderConfig(kind="length")) == "cpu"
    with pytest.raises(
        ConfigError, match="max_tokens = 5 is out of range: expected none, as embedder = 'len"
    ):
        EmbedderConfig(kind="length", max_tokens=5)
    add_row("x")
    assert embedder_device(EmbedderConfig(kind="length", max_tokens=5)) == "cuda"


def test_the_command_line_s_help_names_every_embedder():
    """The arguments import nothing heavy, so their text is written by hand."""
    for name, row in EMBEDDERS.items():
        spelling = f"{name}:MODEL" if row.argument is not None else f"{name} ("
        assert spelling in arguments.EMBEDDERS
