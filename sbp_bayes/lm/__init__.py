"""The transformer language model: configuration, model, loss, decoding, scoring and weights on disk."""

from sbp_bayes.lm.attention import Backend
from sbp_bayes.lm.config import PRESETS, LMConfig, RopeScaling
from sbp_bayes.lm.decode import Generated, Sampling, generate, generate_iter
from sbp_bayes.lm.hf import load_hf
from sbp_bayes.lm.hf_export import export_hf
from sbp_bayes.lm.model import Transformer, with_context_length
from sbp_bayes.lm.precision import MatmulDtype, matmul_dtype, resolved_matmul_dtype
from sbp_bayes.lm.score import log_prob_documents, score_batch, score_rows
from sbp_bayes.lm.weights import load_model, model_fingerprint, save_model

__all__ = [
    "PRESETS",
    "Backend",
    "Generated",
    "LMConfig",
    "MatmulDtype",
    "RopeScaling",
    "Sampling",
    "Transformer",
    "export_hf",
    "generate",
    "generate_iter",
    "load_hf",
    "load_model",
    "log_prob_documents",
    "matmul_dtype",
    "model_fingerprint",
    "resolved_matmul_dtype",
    "save_model",
    "score_batch",
    "score_rows",
    "with_context_length",
]
