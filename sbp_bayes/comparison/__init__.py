"""The compute-matched comparison: any arm of the table, on text and in toy worlds, by one function.

`ARMS` is the table, `Bench` what text and toy worlds have in common, `run_arms` runs, `compared` tells.
"""

from sbp_bayes.arms import ARMS, CHECKPOINTS, Arm, in_order, reference_of
from sbp_bayes.comparison.bench import ArmSettings, Bench, Made, TuningPairs
from sbp_bayes.comparison.gauges import gauges_of
from sbp_bayes.comparison.run import OpenBench, run_arms
from sbp_bayes.comparison.table import best_control, compared
from sbp_bayes.comparison.training import ArmRun, ArmStages, CompanionStages
from sbp_bayes.evaluation import difference_interval, loss_interval, share_interval

__all__ = [
    "ARMS",
    "CHECKPOINTS",
    "Arm",
    "ArmRun",
    "ArmSettings",
    "ArmStages",
    "Bench",
    "CompanionStages",
    "Made",
    "OpenBench",
    "TuningPairs",
    "best_control",
    "compared",
    "difference_interval",
    "gauges_of",
    "in_order",
    "loss_interval",
    "reference_of",
    "run_arms",
    "share_interval",
]
