"""`sbp export-hf`: a model for other programs."""

import argparse
from pathlib import Path

from sbp_bayes.cli import inputs
from sbp_bayes.corpus import Tokenizer
from sbp_bayes.lm import export_hf, load_model


def export_model(arguments: argparse.Namespace) -> str:
    """Export a model, with the tokenizer that lies beside it; return what was written, for a person."""
    folder = inputs.model_folder(arguments.model)
    model, location = load_model(folder), inputs.tokenizer_path(folder)
    export_hf(model, Path(arguments.out), None if location is None else Tokenizer.load(location))
    tokenizer = "no tokenizer beside the model" if location is None else f"tokenizer {location}"
    return f"export-hf: {model.config.num_parameters:,} parameters, {tokenizer}, in {arguments.out}"
