"""The talk's benchmarks by EleutherAI's lm-evaluation-harness, which the extra `eval` installs."""

from sbp_bayes.evaluation.harness.benchmarks import BENCHMARKS, TALK, Benchmark, benchmarks_named
from sbp_bayes.evaluation.harness.evaluate import BenchmarksConfig, evaluate_benchmarks
from sbp_bayes.evaluation.harness.table import talk_table

__all__ = [
    "BENCHMARKS",
    "TALK",
    "Benchmark",
    "BenchmarksConfig",
    "benchmarks_named",
    "evaluate_benchmarks",
    "talk_table",
]
