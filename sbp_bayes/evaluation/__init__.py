"""Losses with their intervals, the quality of synthetic text, and synthesizers against exact ones."""

from sbp_bayes.evaluation.gauges import (
    GAUGE_SCORES,
    Gauges,
    GaugeScores,
    gauge,
    gauge_line,
    gauge_scores,
    gauges,
)
from sbp_bayes.evaluation.intervals import (
    Estimate,
    Interval,
    difference_interval,
    loss_interval,
    mean_over_seeds,
    mean_over_seeds_and_documents,
    share_interval,
)
from sbp_bayes.evaluation.judge.endpoint import EndpointConfig, EndpointJudge
from sbp_bayes.evaluation.judge.judges import Judge, Limits
from sbp_bayes.evaluation.judge.local import LocalConfig, LocalJudge
from sbp_bayes.evaluation.ledger import arm_flops
from sbp_bayes.evaluation.losses import SCORES, evaluate, score_corpus
from sbp_bayes.evaluation.scores import DocumentScores, ScoresBySeed, pair_arms
from sbp_bayes.evaluation.text.drift import Drift, DriftConfig, drift, drift_line, drift_stage
from sbp_bayes.evaluation.text.judged import JudgedConfig, judge_items, judge_stage
from sbp_bayes.evaluation.text.measures import measure_quality
from sbp_bayes.evaluation.text.passages import PASSAGE_TOKENS, Passage, overlapping_passages
from sbp_bayes.evaluation.text.quality import (
    DocumentQuality,
    PairQuality,
    PairSimilarity,
    QualityConfig,
    QualityReport,
    document_quality,
    pair_quality,
    pair_similarity,
    quality_report,
    quality_stage,
)
from sbp_bayes.evaluation.text.talk import RESULTS_OF_THE_TALK, Cell, TalkTable, talk_table
from sbp_bayes.evaluation.worlds.calibration import ConceptCalibration, ReliabilityBin, concept_calibration
from sbp_bayes.evaluation.worlds.fidelity import (
    ExactFidelity,
    Fidelity,
    PairScores,
    exact_fidelity,
    measure_fidelity,
    score_pairs,
)
from sbp_bayes.evaluation.worlds.judged import Agreement, judge_agreement
from sbp_bayes.evaluation.worlds.probe import BeliefProbe, belief_probe, hidden_states, linear_probe
from sbp_bayes.evaluation.worlds.recall import (
    FactWorld,
    RecallItems,
    RecallScores,
    next_world_token,
    recall_items,
    score_recall,
)
from sbp_bayes.evaluation.worlds.statements import StatementWorld, statement_quality

__all__ = [
    "GAUGE_SCORES",
    "PASSAGE_TOKENS",
    "RESULTS_OF_THE_TALK",
    "SCORES",
    "Agreement",
    "BeliefProbe",
    "Cell",
    "ConceptCalibration",
    "DocumentQuality",
    "DocumentScores",
    "Drift",
    "DriftConfig",
    "EndpointConfig",
    "EndpointJudge",
    "Estimate",
    "ExactFidelity",
    "FactWorld",
    "Fidelity",
    "GaugeScores",
    "Gauges",
    "Interval",
    "Judge",
    "JudgedConfig",
    "Limits",
    "LocalConfig",
    "LocalJudge",
    "PairQuality",
    "PairScores",
    "PairSimilarity",
    "Passage",
    "QualityConfig",
    "QualityReport",
    "RecallItems",
    "RecallScores",
    "ReliabilityBin",
    "ScoresBySeed",
    "StatementWorld",
    "TalkTable",
    "arm_flops",
    "belief_probe",
    "concept_calibration",
    "difference_interval",
    "document_quality",
    "drift",
    "drift_line",
    "drift_stage",
    "evaluate",
    "exact_fidelity",
    "gauge",
    "gauge_line",
    "gauge_scores",
    "gauges",
    "hidden_states",
    "judge_agreement",
    "judge_items",
    "judge_stage",
    "linear_probe",
    "loss_interval",
    "mean_over_seeds",
    "mean_over_seeds_and_documents",
    "measure_fidelity",
    "measure_quality",
    "next_world_token",
    "overlapping_passages",
    "pair_arms",
    "pair_quality",
    "pair_similarity",
    "quality_report",
    "quality_stage",
    "recall_items",
    "score_corpus",
    "score_pairs",
    "score_recall",
    "share_interval",
    "statement_quality",
    "talk_table",
]
