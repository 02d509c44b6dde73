"""Losses with their intervals, and the quality of synthetic text."""

from sbp_bayes.evaluation.assessment import QualityConfig, QualityReport, quality_report
from sbp_bayes.evaluation.perplexity import SCORES, evaluate, score_corpus
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
    "Bootstrap",
    "DocumentQuality",
    "DocumentScores",
    "Interval",
    "PairQuality",
    "PairSimilarity",
    "QualityConfig",
    "QualityReport",
    "ShareOfGain",
    "document_quality",
    "evaluate",
    "pair_quality",
    "pair_similarity",
    "quality_report",
    "score_corpus",
]
