"""The arguments of each command of `sbp`; standard library only."""

import argparse

SOURCES = (
    "a folder made by `sbp corpus`, or text: a file or folder of .jsonl, .ndjson, .jsonlines or .json (also "
    "with .gz or .zst) or .parquet, packaged:wikipedia, packaged:factbook, packaged:cookbook, "
    "packaged:docstrings, or hf:NAME"
)

EMBEDDERS = (
    "lsa (default: words alone), bm25 (likewise, by BM25), minilm (packaged), self (with --model), "
    "qwen3 (Qwen3-Embedding-0.6B), qwen3:MODEL or sentence:MODEL (sentence-transformers), where MODEL is a "
    "local folder or a name on the Hugging Face hub; these need the extra [hf] and read "
    "--set embedder.max_tokens=N tokens of a document"
)

BENCHMARK_DATA = (
    *("openwebtext2", "lambada", "mmlu"),
    *("arc_challenge", "arc_easy", "sciq", "winogrande", "triviaqa", "webqs"),
)

CACHE = (
    "keep embeddings here, by content, so that another alpha or k needs no second embedding (default: the "
    "environment's SBP_CACHE; without it the stage's own folder keeps them until it is finished)"
)


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp corpus`."""
    parser.add_argument("paths", nargs="+", metavar="TEXT", help=SOURCES.partition("or text: ")[2])
    _add_vocab_size(parser)
    parser.add_argument(
        "--min-chars", type=int, metavar="N", help="leave shorter documents out (default 200)"
    )
    parser.add_argument(
        "--text-field", metavar="NAME", help="field or column that holds the text (default text)"
    )
    parser.add_argument("--limit-documents", type=int, metavar="N", help="read at most N of each path")
    parser.add_argument(
        "--keep-fields",
        metavar="NAMES",
        help="metadata fields to keep besides url and label, as a,b.c; '' keeps none (default: all)",
    )
    parser.add_argument("--drop-fields", metavar="NAMES", help="metadata fields to leave out, as a,b.c")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that share the files (default: the usable cores)"
    )


def add_corpus_stats(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp corpus stats`."""
    parser.add_argument("corpus", metavar="CORPUS", help="a folder made by `sbp corpus`")
    parser.add_argument(
        "--repetitions", type=int, default=20, metavar="N", help="of the budget (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def add_pair(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp pair`."""
    _add_real_text(parser)
    _add_vocab_size(parser)
    parser.add_argument("--embedder", metavar="NAME", help=EMBEDDERS)
    parser.add_argument("--cache", metavar="DIR", help=CACHE)
    parser.add_argument("--alpha", type=float, metavar="X", help="lowest similarity of a pair (default 0.5)")
    parser.add_argument("-k", type=int, metavar="N", help="neighbours searched for each document (default 8)")
    parser.add_argument(
        "--engine",
        default="local",
        choices=("local", "ray"),
        help="who searches: this process (default), or Ray's workers, which may be lost and come back",
    )
    parser.add_argument(
        "--address",
        metavar="ADDR",
        help="with --engine ray: HOST:PORT of a running cluster, or auto (default: a Ray of its own)",
    )
    help = "parts that vectors are cut into, for --engine ray; exact pairs don't depend on it (default 1)"
    parser.add_argument("--shards", type=int, metavar="N", help=help)
    _add_model(parser, required=False, help="model whose hidden states `--embedder self` averages")


def add_pair_report(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp pair report`."""
    parser.add_argument("pairs", metavar="DIR", help="a folder made by `sbp pair`")
    parser.add_argument(
        "--corpus", metavar="CORPUS", help="the prepared corpus that was paired (default: where it was then)"
    )
    parser.add_argument(
        "--unique-tokens", type=int, metavar="N", help="as in `sbp pair`, where the folder doesn't say"
    )
    parser.add_argument(
        "--split", default="train", choices=("train", "validation"), help="which pairs (default train)"
    )
    parser.add_argument(
        "--samples", type=int, default=3, metavar="N", help="pairs shown (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the pairs shown (default 0)")


def add_plan_pairing(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp plan pairing`."""
    parser.add_argument(
        "--documents", type=_whole, required=True, metavar="N", help="to be paired, for instance 582e6"
    )
    parser.add_argument(
        "--dimension", type=_whole, default=1024, metavar="N", help="of the vectors (default %(default)s)"
    )
    parser.add_argument(
        "-k", type=_whole, default=200, metavar="N", help="neighbours of a document (default %(default)s)"
    )
    parser.add_argument(
        "--cores", type=_whole, default=1000, metavar="N", help="of all machines (default %(default)s)"
    )
    parser.add_argument(
        "--memory-per-worker",
        type=float,
        default=8.0,
        metavar="GIB",
        help="for one shard, which is one core's (default %(default)s)",
    )
    parser.add_argument(
        "--measure", action="store_true", help="measure this machine first, some 10 seconds on one core"
    )
    parser.add_argument(
        "--corpus",
        metavar="CORPUS",
        help="measure on passages of this prepared corpus how many lists must be asked",
    )


def _whole(text: str) -> int:
    """Read a whole number, also as 582e6."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


_whole.__name__ = "whole number"  # argparse shows it


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp tune`."""
    _add_real_text(parser)
    parser.add_argument("--pairs", required=True, metavar="DIR", help="folder made by `sbp pair`")
    _add_model(
        parser, help="model to start from; of a pretraining's folder, its best checkpoint on validation"
    )
    _add_document_limit(parser, "the model's context length")
    parser.add_argument("--epochs", type=float, metavar="X", help="most times each pair is seen (default 2)")
    _add_checkpoints(parser)


def add_synthesize(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp synthesize`."""
    _add_sampling(parser)
    _add_wanted_tokens(parser)
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that sample (default: the usable cores)"
    )


def add_synthesize_prompts(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp synthesize prompts`."""
    _add_sampling(parser)
    help = "samples asked for; a larger N begins with the same ones (the screen drops some of them)"
    parser.add_argument("--samples", type=int, required=True, metavar="N", help=help)


def add_synthesize_vllm(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp synthesize vllm`."""
    parser.add_argument("requests", metavar="DIR", help="folder made by `sbp synthesize prompts`")
    help = "the model of the requests, a folder made by `sbp export-hf`"
    parser.add_argument("--model", required=True, metavar="DIR", help=help)
    help = "answer every N-th shard from the I-th on, for instance 1/8: machines share the work"
    parser.add_argument("--part", metavar="I/N", help=help)


def add_synthesize_import(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp synthesize import`."""
    help = (
        "JSON lines, also with .gz or .zst, or folders of them; a line has the request's sample, model and "
        "seed, and token_ids and finish_reason (stop or length)"
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help=help)
    help = "folder made by `sbp synthesize prompts`, which the samples answer"
    parser.add_argument("--requests", required=True, metavar="DIR", help=help)
    _add_wanted_tokens(parser)
    help = "the corpus of the requests, to measure how far the samples drift (default: where it was then)"
    parser.add_argument("--corpus", metavar="CORPUS", help=help)
    parser.add_argument(
        "--unique-tokens", type=int, metavar="N", help="as in the requests, where their folder does not say"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that read (default: the usable cores)"
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    _add_real_text(parser)
    _add_model(parser, help="synthesizer, made by `sbp tune`")
    _add_document_limit(parser, "as in tuning")
    parser.add_argument("--temperature", type=float, metavar="X", help="default 1, as in the paper")
    parser.add_argument(
        "--unconditional",
        action="store_true",
        help="sample without any d1: of a pretrained model, self-distillation, the control of SBP",
    )


def _add_wanted_tokens(parser: argparse.ArgumentParser) -> None:
    help = "tokens wanted after screening"
    parser.add_argument("--tokens", type=int, required=True, metavar="N", help=help)


def add_pretrain(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp pretrain`."""
    _add_real_text(parser)
    _add_vocab_size(parser)
    parser.add_argument("--preset", default="demo", metavar="NAME", help="shape of the model (default demo)")
    parser.add_argument(
        "--budget-tokens", type=int, metavar="N", help="tokens trained on (default: 20 times the real text)"
    )
    parser.add_argument("--rows-per-batch", type=int, default=32, metavar="N", help="default %(default)s")
    parser.add_argument(
        "--synthetic", metavar="DIR", help="folder made by `sbp synthesize`: joint pretraining"
    )
    parser.add_argument(
        "--synthetic-share", type=float, metavar="X", help="of the budget (default 0.375 with --synthetic)"
    )
    parser.add_argument(
        "--repeat-synthetic",
        action="store_true",
        default=None,
        help="read synthetic text again where the budget asks for more than there is (default: an error)",
    )
    _add_checkpoints(parser)


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp evaluate`."""
    help = f"text to score, with --model: {SOURCES}; or, with --tasks, the model itself"
    parser.add_argument("scored", metavar="CORPUS|MODEL", help=help)
    of_model = "model to score; of a pretraining's folder, its best checkpoint on validation"
    _add_model(parser, help=of_model, required=False)
    parser.add_argument(
        "--split", choices=("test", "validation", "pool"), help="of a prepared corpus (default test)"
    )
    _add_benchmarks(parser)


def _add_benchmarks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tasks",
        metavar="NAMES",
        help="score on benchmarks instead of text, by lm-evaluation-harness (the extra [eval]): talk for all "
        f"nine, or names as a,b of {', '.join(BENCHMARK_DATA)}",
    )
    help = "items of the benchmarks, a folder of each one's name (default: from the Hugging Face hub)"
    parser.add_argument("--tasks-dir", metavar="DIR", help=help)
    parser.add_argument("--limit", type=int, metavar="N", help="at most N items of each benchmark")
    parser.add_argument("--device", metavar="NAME", help="cpu (default), cuda or cuda:N; with --tasks")
    help = "count the items that share 13 words in a row with this training or synthetic text (repeatable)"
    parser.add_argument("--overlap", action="append", default=[], metavar="CORPUS", help=help)


def add_quality(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp quality`."""
    parser.add_argument(
        "synthetic",
        metavar="SYNTHETIC",
        help="a folder made by `sbp synthesize`, or text of any origin, whose field seed_document names d1",
    )
    parser.add_argument(
        "--against", required=True, metavar="CORPUS", help="a folder made by `sbp corpus`: the real text"
    )
    _add_unique_tokens(parser)
    parser.add_argument("--pairs", metavar="DIR", help="folder made by `sbp pair`: pairs for the real row")
    parser.add_argument("--embedder", metavar="NAME", help="whose cosine says what is related (default lsa)")
    parser.add_argument(
        "--benchmark",
        action="append",
        default=[],
        metavar="FILE",
        help="JSON lines whose strings are searched for in both texts by 13-grams of words (repeatable)",
    )
    _add_document_limit(parser, "as in the synthesis")
    parser.add_argument(
        "--judge",
        metavar="URL",
        help="who says what is false or unrelated: http://HOST:PORT/v1 of a server that speaks OpenAI's chat "
        "completions (its key, if it wants one, in SBP_JUDGE_KEY), or the folder of a transformers model",
    )
    parser.add_argument("--judge-model", metavar="NAME", help="the model's name on that server")
    help = "documents and pairs that the judge reads, of each kind (default %(default)s)"
    parser.add_argument("--judge-documents", type=int, default=200, metavar="N", help=help)
    help = "requests under way at once (default %(default)s)"
    parser.add_argument("--judge-together", type=int, default=4, metavar="N", help=help)
    help = "most requests to the judge, all calls for this folder together (default: no limit)"
    parser.add_argument("--max-requests", type=int, metavar="N", help=help)
    help = "most tokens that the judge reads and writes, likewise (default: no limit)"
    parser.add_argument("--max-tokens", type=int, metavar="N", help=help)
    parser.add_argument(
        "--judge-set",
        action="append",
        default=[],
        dest="judge_assignments",
        metavar="KEY=VALUE",
        help="a setting of the judge: timeout_seconds, tries, parameters.max_tokens, … (repeatable)",
    )


def add_export_hf(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp export-hf`."""
    help = "model to export; of a pretraining's folder, its best checkpoint on validation"
    parser.add_argument("model", metavar="MODEL", help=help)
    help = "larger weights are written in shards of at most N bytes (default 5 GiB)"
    parser.add_argument("--file-bytes", type=_whole, default=5 << 30, metavar="N", help=help)


def add_export_data(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp export-data`."""
    parser.add_argument("samples", metavar="DIR", help="folder made by `sbp synthesize`")
    help = (
        "folder made by `sbp pair`, whose pairs taught the synthesizer: they are exported too, samples get "
        "their similarity to their seed documents, and the card gets a table of quality"
    )
    parser.add_argument("--pairs", metavar="DIR", help=help)
    help = "with --pairs: the prepared corpus that was paired (default: where it was then)"
    parser.add_argument("--corpus", metavar="CORPUS", help=help)
    parser.add_argument(
        "--unique-tokens", type=int, metavar="N", help="as in `sbp pair`, where the folder does not say"
    )
    _add_model(parser, required=False, help="model of the pairs' embedder, where it was `self`")
    help = "identifier of the licence, as the Hugging Face hub spells it (default unknown)"
    parser.add_argument("--license", metavar="NAME", help=help)
    help = "of the tables: parquet, jsonl.zst or both (default parquet,jsonl.zst)"
    parser.add_argument("--formats", metavar="NAMES", help=help)
    help = "bytes of text in a file (default 256 MiB)"
    parser.add_argument("--file-bytes", type=_whole, metavar="N", help=help)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sbp runs`."""
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="none: list all; one: show it; two: compare them"
    )
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder of the runs (default runs)")


def _add_real_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", metavar="CORPUS", help=SOURCES)
    _add_unique_tokens(parser)


def _add_unique_tokens(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unique-tokens",
        type=int,
        metavar="N",
        help="use a random N tokens of the real text, the same in every stage (default: all)",
    )


def _add_model(parser: argparse.ArgumentParser, *, help: str, required: bool = True) -> None:
    help = f"{help}; or a Hugging Face Qwen3 folder with this library's token ids"
    parser.add_argument("--model", required=required, metavar="DIR", help=help)


def _add_vocab_size(parser: argparse.ArgumentParser) -> None:
    help = "ids of the tokenizer trained on the text (default %(default)s; a prepared corpus has its own)"
    parser.add_argument("--vocab-size", type=int, default=2048, metavar="N", help=help)


def _add_checkpoints(parser: argparse.ArgumentParser) -> None:
    help = "between the checkpoints an interrupted training goes on from; changes no result (default 60)"
    parser.add_argument("--checkpoint-seconds", type=float, metavar="X", help=help)
    help = "the newest N are kept until the training ends, besides its best weights (default 2)"
    parser.add_argument("--kept-checkpoints", type=int, metavar="N", help=help)
    help = "show metrics.jsonl by tensorboard, wandb (offline) or mlflow, in a folder of this name in --out"
    parser.add_argument("--tracker", choices=("tensorboard", "wandb", "mlflow"), help=help)


def _add_document_limit(parser: argparse.ArgumentParser, default: str) -> None:
    help = f"cut documents to N tokens (default: {default})"
    parser.add_argument("--max-document-tokens", type=int, metavar="N", help=help)
