"""What the report shows, as plain JSON types: numbers of every stage, curves, and sampled texts."""

import platform
from typing import Any

import numpy as np
import torch

from experiments.text_sbp.comparison import compare
from experiments.text_sbp.run import ARMS, RunOutput, SeedRun
from sbp_bayes.base.code import code_version
from sbp_bayes.base.config import encode, fingerprint
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.stage import Manifest
from sbp_bayes.base.store import read_json_lines
from sbp_bayes.base.workers import usable_cores
from sbp_bayes.corpus import Corpus
from sbp_bayes.pairing import PairSet

SCHEMA_VERSION = 1
SYNTHESES_SHOWN, PAIRS_SHOWN = 2, 3
VALIDATION_LOSS = "validation_nats_per_token"


def report_content(output: RunOutput, config_name: str, run_id: str) -> dict[str, Any]:
    """Return the whole report; documents and pairs shown are drawn at random, not chosen."""
    shown = output.seeds[0]
    return {
        "schema_version": SCHEMA_VERSION,
        "config_name": config_name,
        "run_id": run_id,
        "config": encode(output.config),
        "config_fingerprint": fingerprint(output.config),
        "code_version": code_version("experiments.text_sbp.run"),
        "seeds": list(output.config.seeds),
        "machine": machine(),
        "seconds": output.seconds,
        "corpus": _corpus(output, shown),
        "model": encode(output.config.model)
        | {
            "num_parameters": output.config.model.num_parameters,
            "parameters_per_unique_token": output.config.model.num_parameters / shown.unique.num_tokens,
        },
        "budget": _budget(output, shown),
        **compare(output),
        "dynamics": [curve for run in output.seeds for curve in _dynamics(run)],
        "similarity": _similarity(output, shown),
        "pairs": _pairs(output, shown),
        "tuning": _tuning(shown),
        "synthesis": dict(shown.algorithm.synthesis.counts),
        "quality": shown.quality.counts,
        "examples": _examples(shown),
        "sampled_pairs": _sampled_pairs(shown),
        "ledger": ledger(output),
    }


def machine() -> dict[str, Any]:
    """Return what the run ran on."""
    return {
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def ledger(output: RunOutput) -> list[dict[str, Any]]:
    """Return every stage's tokens, FLOPs and seconds, summed over seeds, with the arm that needs it.

    Seconds of a stage found finished are those of the run that did the work.
    """
    lines = [_line("corpus", "shared", [output.data.manifest], None)]
    runs = output.seeds
    lines.append(_line("pretrain", "baseline", [run.algorithm.baseline for run in runs], "num_tokens"))
    tuned = [stage for run in runs for stage in run.tuned_baselines]
    if tuned:
        lines.append(_line("pretrain", "tuned_baseline", tuned, "num_tokens"))
    lines.append(_line("pair", "sbp", [run.algorithm.pairs for run in runs], None))
    lines.append(_line("tune", "sbp", [run.algorithm.tune for run in runs], "tokens"))
    synthesis = [run.algorithm.synthesis for run in runs]
    lines.append(_line("synthesize", "sbp", synthesis, "prompt_tokens", "sampled_tokens"))
    lines.append(_line("pretrain", "sbp", [run.algorithm.joint for run in runs], "num_tokens"))
    lines.append(_line("pretrain", "oracle", [run.oracle for run in runs], "num_tokens"))
    lines.append(_line("quality", "shared", [run.quality for run in runs], None))
    for arm in ARMS:
        evaluations = [stage for run in runs for stage in run.evaluations(arm).values()]
        lines.append(_line("evaluate", arm, evaluations, "tokens"))
    return lines


def _line(stage: str, arm: str, manifests: list[Manifest], *token_counts: str | None) -> dict[str, Any]:
    distinct = {manifest.fingerprint: manifest for manifest in manifests}.values()
    counted = [sum(m.counts[name] for m in distinct) for name in token_counts if name is not None]
    return {
        "stage": stage,
        "arm": arm,
        "tokens": sum(counted) if counted else None,
        "flops": sum(m.flops for m in distinct),
        "seconds": sum(m.seconds for m in distinct),
    }


def _corpus(output: RunOutput, shown: SeedRun) -> dict[str, Any]:
    counts = output.data.manifest.counts
    return {
        "paths": list(output.config.corpus.paths),
        "documents_read": counts["read"],
        "rejected": counts["rejected"],
        "cleaned_away": counts["cleaned_away"],
        "exact_duplicates": counts["exact_duplicates"],
        "near_duplicates": counts["near_duplicates"],
        "exact_rate": counts["exact_duplicate_rate"],
        "near_rate": counts["near_duplicate_rate"],
        "vocab_size": counts["vocab_size"],
        "splits": counts["splits"],
        "unique": _size(shown.unique),
        "oracle": _size(shown.oracle_documents),
    }


def _size(corpus: Corpus) -> dict[str, int]:
    return {"documents": len(corpus), "tokens": corpus.num_tokens}


def _budget(output: RunOutput, shown: SeedRun) -> dict[str, Any]:
    joint = shown.algorithm.joint.counts
    return {
        "tokens": joint["num_tokens"],
        "repetitions": shown.algorithm.baseline.counts["epochs_by_source"]["real"],
        "synthetic_tokens": joint["tokens_by_source"]["synthetic"],
        "synthetic_share": output.config.synthetic_share,
    }


def _dynamics(run: SeedRun) -> list[dict[str, Any]]:
    shown = {arm: run.pretraining(arm) for arm in ARMS}
    if run.tuned_baselines:
        shown["tuned_baseline"] = run.best_baseline
    curves = []
    for arm, stage in shown.items():
        history = read_json_lines(stage.directory / "metrics.jsonl")
        validations = [record for record in history if VALIDATION_LOSS in record]
        curves.append(
            {
                "arm": arm,
                "seed": run.seed,
                "tokens": [record["tokens"] for record in validations],
                VALIDATION_LOSS: [record[VALIDATION_LOSS] for record in validations],
            }
        )
    return curves


def _similarity(output: RunOutput, shown: SeedRun) -> dict[str, Any]:
    pairs = PairSet.load(shown.algorithm.pairs.directory / "train")
    edges = np.linspace(-0.2, 1.0, 61)

    def density(values: np.ndarray) -> list[float]:
        return np.histogram(np.clip(values, edges[0], edges[-1]), edges, density=True)[0].tolist()

    return {
        "alpha": output.config.pairs.rules.alpha,
        "bin_edges": edges.tolist(),
        "neighbours": density(pairs.neighbour_similarities),
        "random": density(pairs.random_similarities),
    }


def _pairs(output: RunOutput, shown: SeedRun) -> dict[str, Any]:
    pairs = PairSet.load(shown.algorithm.pairs.directory / "train")
    counts = shown.algorithm.pairs.counts["train"]
    duplicates = ("exact_copies", "near_duplicates_by_containment", "near_duplicates_by_jaccard")
    return {
        "count": len(pairs),
        "documents": counts["documents"],
        "documents_covered": counts["documents_with_pair"],
        "rejected": {
            "neighbours_below_alpha": counts["neighbours_below_alpha"],
            "near_duplicates": sum(counts[name] for name in duplicates),
            "over_limit": counts["over_limit"],
        },
        "mean_similarity": float(pairs.similarity.mean()),
        "label_agreement": counts.get("label_agreement"),
        "label_agreement_of_random_pairs": counts.get("label_agreement_of_random_pairs"),
        "embedder": output.config.pairs.embedder.kind,
        "k": output.config.pairs.k,
    }


def _tuning(shown: SeedRun) -> dict[str, Any]:
    stage = shown.algorithm.tune
    history = read_json_lines(stage.directory / "metrics.jsonl")
    return {
        "best_step": stage.counts["best_step"],
        "validation_nats_d2_given_d1": stage.counts["validation_nats_per_token"],
        "validation_nats_before_tuning": stage.counts["validation_nats_per_token_before"],
        "history": [
            {"step": r["step"], VALIDATION_LOSS: r[VALIDATION_LOSS]} for r in history if VALIDATION_LOSS in r
        ],
    }


def _examples(shown: SeedRun) -> dict[str, Any]:
    """One real document that has enough syntheses, drawn at random, and its first syntheses."""
    synthetic = Corpus.load(shown.algorithm.synthesis.directory / "corpus")
    seeds = np.array([metadata["seed_index"] for metadata in synthetic.metadata], np.int64)
    enough = np.flatnonzero(np.bincount(seeds, minlength=len(shown.unique)) >= SYNTHESES_SHOWN)
    if len(enough) == 0:
        enough = np.unique(seeds)
    document = int(numpy_generator(shown.seed, "example").choice(enough))
    chosen = np.flatnonzero(seeds == document)[:SYNTHESES_SHOWN]
    return {
        "document": _document(shown.unique, document),
        "syntheses": [{"text": synthetic.texts[i], "finished": bool(synthetic.complete[i])} for i in chosen],
    }


def _sampled_pairs(shown: SeedRun) -> list[dict[str, Any]]:
    pairs = PairSet.load(shown.algorithm.pairs.directory / "train")
    count = min(PAIRS_SHOWN, len(pairs))
    chosen = numpy_generator(shown.seed, "sampled pairs").choice(len(pairs), count, replace=False)
    return [
        {
            "similarity": float(pairs.similarity[i]),
            "first": _document(shown.unique, int(pairs.first[i])),
            "second": _document(shown.unique, int(pairs.second[i])),
        }
        for i in chosen
    ]


def _document(corpus: Corpus, index: int) -> dict[str, str]:
    return {"id": corpus.ids[index], "source": corpus.sources[index], "text": corpus.texts[index]}
