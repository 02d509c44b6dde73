"""Losses with their intervals, the quality of synthetic text, and synthesizers against exact ones."""

from sbp_bayes.evaluation.assessment import QualityConfig, QualityReport, quality_report
from sbp_bayes.evaluation.calibration import ConceptCalibration, ReliabilityBin, concept_calibration
from sbp_bayes.evaluation.fidelity import (
    ExactFidelity,
    Fidelity,
    PairScores,
    exact_fidelity,
    measure_fidelity,
    score_pairs,
)
from sbp_bayes.evaluation.ledger import arm_flops
from sbp_bayes.evaluation.perplexity import SCORES, evaluate, score_corpus
from sbp_bayes.evaluation.probe import BeliefProbe, belief_probe, hidden_states, linear_probe
from sbp_bayes.evaluation.quality import (
    DocumentQuality,
    PairQuality,
    PairSimilarity,
    document_quality,
    pair_quality,
    pair_similarity,
)
from sbp_bayes.evaluation.scores import DocumentScores
from sbp_bayes.evaluation.uncertainty import Arm, Bootstrap, Interval, ShareOfGain

__all__ = [
    "SCORES",
    "Arm",
    "BeliefProbe",
    "Bootstrap",
    "ConceptCalibration",
    "DocumentQuality",
    "DocumentScores",
    "ExactFidelity",
    "Fidelity",
    "Interval",
    "PairQuality",
    "PairScores",
    "PairSimilarity",
    "QualityConfig",
    "QualityReport",
    "ReliabilityBin",
    "ShareOfGain",
    "arm_flops",
    "belief_probe",
    "concept_calibration",
    "document_quality",
    "evaluate",
    "exact_fidelity",
    "hidden_states",
    "linear_probe",
    "measure_fidelity",
    "pair_quality",
    "pair_similarity",
    "quality_report",
    "score_corpus",
    "score_pairs",
]
