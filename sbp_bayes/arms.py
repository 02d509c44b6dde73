"""The arms of a comparison: what each model is trained on, in one table; standard library only.

An arm is a row: every arm runs by the same function, with the fields that differ. Tables, reports and
figures take names, labels and colours from here.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Literal

Role = Literal["repetition", "control", "variant", "method", "ceiling"]
"""What an arm is for. The method is held against the best arm of repetition and control; variants differ from
the method in one choice; ceilings are out of reach in practice."""

Companion = Literal["synthesizer", "stitched", "model", "posterior"]
"""What joins the real text: samples of a synthesizer, the same stitched to their seed documents, samples of
the baseline, samples of the exact posterior predictive."""

MUTED = ("#5f656e", "#a3a9b2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of the comparison.

    Attributes:
        name: in settings and records.
        label: in tables and figures.
        role: what it is for.
        question: what it settles.
        real: the real documents: D_unique, the oracle's, or D_unique with its neighbours in one context.
        companion: the synthetic text that joins them; None: there is none.
        pairs: what the synthesizer is tuned on: related documents, or the same documents paired at random.
        start: the weights that the synthesizer is tuned from: the baseline's best, or random ones.
        embedder: that pairs the documents; None: that of the settings.
        order: when synthetic text is read; see `pretraining.Mixture`.
        tried: the hyper-parameter that is chosen on validation; None: that of the settings for all arms.
        members: models whose probabilities are averaged, which share the FLOPs of the whole of SBP.
        colour: on light and on dark ground.
    """

    name: str
    label: str
    role: Role
    question: str
    real: Literal["unique", "oracle", "neighbours"] = "unique"
    companion: Companion | None = None
    pairs: Literal["related", "random"] = "related"
    start: Literal["baseline", "scratch"] = "baseline"
    embedder: str | None = None
    order: Literal["mixed", "synthetic_first"] = "mixed"
    tried: Literal["weight_decay", "dropout"] | None = None
    members: int = 1
    colour: tuple[str, str] = MUTED

    @property
    def has_synthesizer(self) -> bool:
        """Whether a synthesizer is tuned for it."""
        return self.companion in ("synthesizer", "stitched")


_ROWS = (
    Arm(
        name="baseline",
        label="repetition",
        role="repetition",
        question="what repeating the documents gives",
        colour=("#b84f00", "#f58a3c"),
    ),
    Arm(
        name="tuned_baseline",
        label="repetition, tuned decay",
        role="repetition",
        question="what weight decay alone gives (arXiv 2509.14786)",
        tried="weight_decay",
        colour=("#8c5a00", "#d9a441"),
    ),
    Arm(
        name="dropout_baseline",
        label="repetition, dropout",
        role="repetition",
        question="what dropout alone gives (arXiv 2510.04071)",
        tried="dropout",
    ),
    Arm(
        name="ensemble",
        label="ensemble of repetitions",
        role="control",
        question="the strongest rival of repetition at equal total FLOPs (arXiv 2509.14786)",
        members=3,
    ),
    Arm(
        name="self_distillation",
        label="self-distillation",
        role="control",
        question="how much of the gain is smoothing: samples without any d1",
        companion="model",
        colour=("#7a4fa3", "#b794e0"),
    ),
    Arm(
        name="random_pairs",
        label="SBP, random pairs",
        role="control",
        question="whether it matters which documents are paired",
        companion="synthesizer",
        pairs="random",
        colour=("#9c3f6e", "#e08ab5"),
    ),
    Arm(
        name="packed_neighbours",
        label="packed neighbours",
        role="control",
        question="whether synthesis is needed at all: related documents in one context (arXiv 2310.10638)",
        real="neighbours",
    ),
    Arm(
        name="from_scratch",
        label="SBP, from scratch",
        role="variant",
        question="whether the synthesizer needs the pretrained checkpoint",
        companion="synthesizer",
        start="scratch",
    ),
    Arm(
        name="stitched",
        label="SBP, stitched",
        role="variant",
        question="whether company matters: d1 and its samples as one document (arXiv 2603.18534)",
        companion="stitched",
    ),
    Arm(
        name="synthetic_first",
        label="SBP, synthetic first",
        role="variant",
        question="whether order matters",
        companion="synthesizer",
        order="synthetic_first",
    ),
    Arm(
        name="sbp_self",
        label="SBP, hidden states",
        role="variant",
        question="whether the embedder matters: the baseline's own hidden states",
        companion="synthesizer",
        embedder="self",
    ),
    Arm(
        name="sbp_minilm",
        label="SBP, MiniLM",
        role="variant",
        question="whether the embedder matters: a sentence embedder",
        companion="synthesizer",
        embedder="minilm",
    ),
    Arm(
        name="sbp",
        label="SBP",
        role="method",
        question="the method",
        companion="synthesizer",
        colour=("#0072b2", "#56b4e9"),
    ),
    Arm(
        name="exact_posterior",
        label="exact posterior",
        role="ceiling",
        question="what a perfect synthesizer would give; in toy worlds",
        companion="posterior",
    ),
    Arm(
        name="oracle",
        label="oracle",
        role="ceiling",
        question="what as many times more real documents give",
        real="oracle",
        colour=("#007a5a", "#2fc598"),
    ),
)

ARMS: Mapping[str, Arm] = {arm.name: arm for arm in _ROWS}
"""The arms by name, in the order in which tables show them."""

CHECKPOINTS: Mapping[str, str] = {"best_validation": "best", "last": "last"}
"""Which weights of an arm are scored → their folder in a pretraining's output."""


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the arms of these names once each, in the order of the table."""
    wanted = set(names)
    return tuple(name for name in ARMS if name in wanted)


def reference_of(names: Iterable[str], checkpoint: str) -> str:
    """Return the arm that others are compared with.

    At best checkpoints on validation it is repetition at its best weight decay, where that was run; at last
    checkpoints repetition with the settings of all arms, as in the paper.
    """
    tuned = checkpoint == "best_validation" and "tuned_baseline" in set(names)
    return "tuned_baseline" if tuned else "baseline"
