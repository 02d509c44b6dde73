"""What a synthesizer learns of d2 from d1, measured before any compute is spent on its samples.

*Net information* is E log p(d2 | d1) − E log p(d2) over held-out pairs, in nats per token of d2. p(d2) is the
better of two distributions that know nothing of the pairs: the model that the synthesizer was tuned from,
which reads no d1, and a synthesizer that was tuned on random pairs, where there is one. For the exact
posterior predictive it is I(d1; d2). Where it is not above 0, d1 adds nothing to what the model knew before,
and training on the samples is self-distillation.

*Use of d1* is E log p(d2 | d1) − E log p(d2 | d1 of another pair). A synthesizer can use d1 and still have no
net information, where its tuning loses as much of d2 as it learns.

Pairs that share a d1 are not independent: intervals are over documents d1, each with all its pairs. Pairs
that share a d2 alone count as independent.

Shapes: P held-out pairs.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import encode
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import EOS, IGNORE, Pairs
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, plan_stage, run_stage
from sbp_bayes.base.store import atomic_path
from sbp_bayes.corpus import Corpus
from sbp_bayes.evaluation.intervals import Interval, loss_interval
from sbp_bayes.lm import Transformer, load_model, model_fingerprint, score_rows, with_context_length
from sbp_bayes.synthesizer import TuneConfig, cut_document, held_out_pairs, pair_positions, row_length_of

GAUGE_SCORES = "gauge.npz"
FEWEST_D1 = 3
"""Distinct documents d1 from which on every pair has another d1 that is neither its own nor its d2."""

SELF_DISTILLATION = (
    "Net information is not above 0: the synthesizer predicts d2 from d1 no better than a model without d1, "
    "so synthesis would be self-distillation."
)
"""What a user is told who tunes a synthesizer that learns nothing net from d1."""

WithoutD1 = Literal["the starting model", "random pairs"]
"""What p(d2) is."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GaugeScores(ArrayRecord):
    """Losses on d2 of P held-out pairs, in nats.

    Attributes:
        given_own: −log p(d2 | d1), float64 (P,).
        given_other: −log p(d2 | d1 of another pair), float64 (P,).
        given_none: −log p(d2) of the model without d1, float64 (P,).
        num_tokens: of d2, its EOS included unless it was cut, int64 (P,).
        first, second: indices of d1 and d2, int64 (P,).
        corpus_fingerprint: of the documents that the indices mean.
    """

    given_own: np.ndarray
    given_other: np.ndarray
    given_none: np.ndarray
    num_tokens: np.ndarray
    first: np.ndarray
    second: np.ndarray
    corpus_fingerprint: str

    def of_same_pairs(self, other: "GaugeScores") -> bool:
        """Whether `other` has scored the same pairs."""
        return (
            self.corpus_fingerprint == other.corpus_fingerprint
            and np.array_equal(self.first, other.first)
            and np.array_equal(self.second, other.second)
        )

    def save(self, path: Path) -> None:
        """Write the scores to the file `path` (.npz), atomically."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> "GaugeScores":
        """Read the scores that `save` wrote."""
        with np.load(path) as arrays:
            values = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
        return cls(**values | {"corpus_fingerprint": str(values["corpus_fingerprint"])})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gauges:
    """What a synthesizer learns of d2 from d1, in nats per token of d2.

    Attributes:
        net_information, use_of_d1: see above, with 95% intervals.
        loss: −log p(d2 | d1).
        loss_without_d1: −log p(d2).
        without_d1: what p(d2) is.
        num_pairs: held-out pairs.
        num_first: distinct documents d1 among them.
    """

    net_information: Interval
    use_of_d1: Interval
    loss: float
    loss_without_d1: float
    without_d1: WithoutD1
    num_pairs: int
    num_first: int


def gauges(scores: GaugeScores, random: GaugeScores | None = None) -> Gauges:
    """Return net information and use of d1.

    Args:
        scores: of the synthesizer.
        random: of a synthesizer that was tuned on random pairs, on the same held-out pairs.

    Raises:
        ConfigError: `random` has scored other pairs, or all pairs share one d1.
    """
    without: dict[WithoutD1, np.ndarray] = {"the starting model": scores.given_none}
    if random is not None:
        if not scores.of_same_pairs(random):
            raise ConfigError("gauges of different held-out pairs cannot be compared")
        without["random pairs"] = random.given_own
    best = min(without, key=lambda name: float(without[name].sum()))
    first, cluster = np.unique(scores.first, return_inverse=True)

    def by_first(values: np.ndarray) -> np.ndarray:
        return np.bincount(cluster, weights=values, minlength=len(first))

    def gain_over(nats: np.ndarray) -> Interval:
        return loss_interval(by_first(nats - scores.given_own)[None], by_first(scores.num_tokens))

    num_tokens = scores.num_tokens.sum()
    return Gauges(
        net_information=gain_over(without[best]),
        use_of_d1=gain_over(scores.given_other),
        loss=float(scores.given_own.sum() / num_tokens),
        loss_without_d1=float(without[best].sum() / num_tokens),
        without_d1=best,
        num_pairs=len(cluster),
        num_first=len(first),
    )


def gauge_scores(
    given: Callable[[np.ndarray], np.ndarray],
    given_none: np.ndarray,
    num_tokens: np.ndarray,
    pairs: Pairs,
    seed: int,
) -> GaugeScores:
    """Score the pairs with their own d1 and with another one's.

    Args:
        given: indices of P documents d1 → −log p(d2 | d1) of the pairs' d2, in nats.
        given_none: −log p(d2), nats (P,).
        num_tokens: of d2, (P,).
        pairs: P of them, with `FEWEST_D1` distinct d1 or more.
        seed: of the choice of the other d1; it is neither the pair's own nor its d2.

    Raises:
        ConfigError: too few distinct d1.
    """
    first, second = np.asarray(pairs.first), np.asarray(pairs.second)
    distinct, cluster = np.unique(first, return_inverse=True)
    if len(distinct) < FEWEST_D1:
        raise ConfigError(f"pairs of {len(distinct)} documents d1: gauges need {FEWEST_D1} or more")
    cycle = numpy_generator(seed, "another d1").permutation(len(distinct))
    place = np.argsort(cycle)[cluster]
    other, further = (distinct[cycle[(place + step) % len(distinct)]] for step in (1, 2))
    return GaugeScores(
        given_own=given(first),
        given_other=given(np.where(other == second, further, other)),
        given_none=given_none,
        num_tokens=num_tokens,
        first=first,
        second=second,
        corpus_fingerprint=pairs.corpus_fingerprint,
    )


def gauge(  # noqa: PLR0917 - as `synthesizer.tune`, in the order of the data
    config: TuneConfig,
    synthesizer: Path,
    start: Path,
    corpus: Corpus,
    pairs: Pairs,
    validation_corpus: Corpus,
    validation_pairs: Pairs,
    directory: Place,
) -> Manifest:
    """Gauge a synthesizer on the pairs that validated its tuning, as a stage; scores go to `gauge.npz`.

    The best weights were chosen on these pairs, which favours the synthesizer a little.

    Args:
        config: of the tuning.
        synthesizer: weights that `tune` wrote.
        start: weights of the model whose p(d2) is compared, those that the tuning started from; it reads
            EOS d2, with d2 cut as in tuning.
        corpus, pairs, validation_corpus, validation_pairs: what `tune` was given.
        directory: the stage's folder, or a workspace.

    Returns:
        a manifest whose counts are the fields of `Gauges`, or "num_pairs" and "num_first" alone where fewer
        than `FEWEST_D1` documents are d1.

    Raises:
        CorpusError: no pairs.
        CheckpointError: weights are missing or damaged.
        StoreError: the folder holds another plan or cannot be written.
    """
    documents, held_out = held_out_pairs(config, corpus, pairs, validation_corpus, validation_pairs)
    inputs = {
        "synthesizer": model_fingerprint(synthesizer),
        "start": model_fingerprint(start),
        "corpus": documents.fingerprint,
        "pairs": held_out.fingerprint,
    }
    settings = {"max_document_tokens": config.max_document_tokens, "seed": config.seed}
    device = config.engine.device_type
    plan = plan_stage("gauge", settings, inputs, __name__, device=device)

    def work(folder: StageFolder) -> Outcome:
        num_first = len(np.unique(held_out.first))
        if num_first < FEWEST_D1:
            return Outcome(counts={"num_pairs": len(held_out.first), "num_first": num_first})
        tuned, before = (_wide_model(path, config).to(config.engine.device) for path in (synthesizer, start))
        scorer = _Scorer(documents, held_out.second, config.max_document_tokens)
        given_none, num_tokens = scorer.without_first(before)
        scores = gauge_scores(
            lambda first: scorer.given(tuned, first), given_none, num_tokens, held_out, config.seed
        )
        scores.save(folder.path / GAUGE_SCORES)
        flops = tuned.config.forward_flops_per_token * scorer.positions
        return Outcome(counts=encode(gauges(scores)), flops=flops)

    return run_stage(plan, directory, work)


def gauge_line(counts: dict[str, Any]) -> str:
    """Say what `gauge` counted in a line, with a second one where synthesis would be self-distillation."""
    if "net_information" not in counts:
        return (
            f"net information: not known, since the held-out pairs have {counts['num_first']} documents d1 "
            f"and {FEWEST_D1} are needed"
        )
    information, use = (counts[name] for name in ("net_information", "use_of_d1"))
    line = (
        f"net information: {_signed(information['estimate'])} nats per token of d2 {_ends(information)}; "
        f"use of d1: {_signed(use['estimate'])} {_ends(use)}"
    )
    if information["low"] > 0:
        return line
    return f"{line}\n{SELF_DISTILLATION}"


def _ends(interval: dict[str, Any]) -> str:
    return f"[{_signed(interval['low'])}, {_signed(interval['high'])}]"


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "\N{MINUS SIGN}")


class _Scorer:
    """Loss of models on the documents d2 of P pairs, and the positions that they have read."""

    def __init__(self, documents: Corpus, second: np.ndarray, max_document_tokens: int) -> None:
        self.documents, self.max_document_tokens, self.positions = documents, max_document_tokens, 0
        self.second = [cut_document(documents, int(index), max_document_tokens) for index in second]

    def given(self, model: Transformer, first: np.ndarray) -> np.ndarray:
        """Return −log p(d2 | d1) for d1 of these indices, nats (P,)."""
        rows = []
        for index, (d2, ends) in zip(first, self.second, strict=True):
            d1 = self.documents.document(int(index))[: self.max_document_tokens]
            rows.append(pair_positions(d1, d2, ends=ends))
        return self._score(model, rows)[0]

    def without_first(self, model: Transformer) -> tuple[np.ndarray, np.ndarray]:
        """Return −log p(d2) where d2 follows EOS alone, nats (P,), and the tokens scored (P,)."""
        rows = [(np.append(EOS, d2), np.append(d2, EOS if ends else IGNORE)) for d2, ends in self.second]
        return self._score(model, rows)

    def _score(
        self, model: Transformer, rows: list[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        self.positions += sum(len(inputs) for inputs, _ in rows)
        return score_rows(model, [(*row, np.zeros(len(row[0]), np.int64)) for row in rows])


def _wide_model(path: Path, config: TuneConfig) -> Transformer:
    """Return a model whose context holds a pair, as tuning widens it."""
    return with_context_length(load_model(path), row_length_of(config.max_document_tokens))
