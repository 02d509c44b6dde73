"""`sbp evaluate`: a model's loss on text, or its scores on the talk's benchmarks."""

import argparse
from pathlib import Path

from sbp_bayes.base.errors import CheckpointError, ConfigError
from sbp_bayes.base.stage import read_manifest
from sbp_bayes.base.store import read_json
from sbp_bayes.cli import inputs
from sbp_bayes.cli.tables import summary, table
from sbp_bayes.corpus import TOKENIZER, Corpus, Tokenizer
from sbp_bayes.evaluation import evaluate
from sbp_bayes.evaluation.harness import BenchmarksConfig, evaluate_benchmarks, talk_table
from sbp_bayes.evaluation.harness.evaluate import RECORD

OF_BENCHMARKS = ("tasks_dir", "limit", "device", "overlap")
OF_TEXT = ("model", "split")


def run_evaluate(arguments: argparse.Namespace) -> str:
    """Score a split of a prepared corpus, any text as it is, or a model on benchmarks."""
    if arguments.tasks is not None:
        return _run_benchmarks(arguments)
    _refuse(arguments, OF_BENCHMARKS, "needs --tasks")
    if arguments.model is None:
        raise ConfigError("--model DIR is missing (or, for benchmarks, --tasks NAMES)")
    model, split = inputs.model_folder(arguments.model), arguments.split or "test"
    corpus, _ = inputs.corpus_or_text(arguments.scored, model, lambda p: p.split(split))
    return summary(evaluate(model, corpus, inputs.place(arguments)))


def _run_benchmarks(arguments: argparse.Namespace) -> str:
    _refuse(arguments, OF_TEXT, "is not for --tasks: sbp evaluate MODEL --tasks NAMES")
    model = inputs.model_folder(arguments.scored)
    location = inputs.tokenizer_path(model)
    if location is None:
        raise CheckpointError(f"{model}: no {TOKENIZER} beside the model")
    config = BenchmarksConfig(
        tasks=tuple(name for name in arguments.tasks.split(",") if name),
        limit=arguments.limit,
        device=arguments.device or "cpu",
    )
    items_dir = None if arguments.tasks_dir is None else Path(arguments.tasks_dir)
    place = inputs.place(arguments)
    tokenizer = Tokenizer.load(location)
    against = {path: _training_text(path, model, tokenizer) for path in arguments.overlap}
    manifest = evaluate_benchmarks(config, model, tokenizer, place, items_dir=items_dir, against=against)
    record = read_json(manifest.directory / RECORD)
    head = f"benchmarks: {manifest.seconds:.1f} s, {record['harness']}, in {manifest.directory}"
    return "\n".join([head, *table(talk_table(record))])


def _training_text(path: str, model: Path, tokenizer: Tokenizer) -> Corpus:
    """Return a prepared corpus's pool, a synthetic corpus, or text as it is."""
    if inputs.is_stage(path) and read_manifest(Path(path)).stage == "synthesize":
        return inputs.synthetic_corpus(path, tokenizer)
    return inputs.corpus_or_text(path, model, lambda prepared: prepared.split("pool"))[0]


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value != []:
            raise ConfigError(f"--{name.replace('_', '-')} {value} {why}")
