"""Models and synthesizers measured by what worlds know exactly: recall of facts, and what documents state."""

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
    "FactWorld",
    "RecallItems",
    "RecallScores",
    "StatementWorld",
    "next_world_token",
    "recall_items",
    "score_recall",
    "statement_quality",
]
