"""`sbp export-hf` and `sbp export-data`: a model and a data set for other programs."""

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.config import decode
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.stage import Manifest, read_manifest
from sbp_bayes.cli import inputs
from sbp_bayes.cli.pair_report import config_of, paired, refuse_other_documents
from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.corpus.repetition import RepetitionRule
from sbp_bayes.evaluation import QualityConfig, quality_stage
from sbp_bayes.lm import export_hf, load_model
from sbp_bayes.pairing import Embedder, PairSet, fit_embedder
from sbp_bayes.pairing.embed.table import embedder_inputs
from sbp_bayes.synthesis import ExportConfig, RealPairs, export_data
from sbp_bayes.synthesizer.marginal import ALONE


def export_model(arguments: argparse.Namespace) -> str:
    """Export a model, with the tokenizer that lies beside it; return what was written, for a person."""
    folder = inputs.model_folder(arguments.model)
    model, location = load_model(folder), inputs.tokenizer_path(folder)
    origin = {}
    if inputs.is_stage(arguments.model):
        manifest = read_manifest(Path(arguments.model))
        losses = {key: value for key, value in manifest.counts.items() if "nats_per_token" in key}
        origin = {"stage": manifest.stage, "plan": manifest.fingerprint, **losses}
    export_hf(
        model,
        Path(arguments.out),
        None if location is None else Tokenizer.load(location),
        file_bytes=arguments.file_bytes,
        origin=origin,
        beside=[path for path in (folder / ALONE, folder.parent / ALONE) if path.exists()][:1],
    )
    tokenizer = "no tokenizer beside the model" if location is None else f"tokenizer {location}"
    return f"export-hf: {model.config.num_parameters:,} parameters, {tokenizer}, in {arguments.out}"


def export_data_set(arguments: argparse.Namespace) -> Manifest:
    """Export a synthesis as a data set; with the pairs behind it, where they are given."""
    samples = inputs.synthesis(arguments.samples)
    given = {"license": arguments.license, "formats": arguments.formats, "file_bytes": arguments.file_bytes}
    if given["formats"] is not None:
        given["formats"] = arguments.formats.split(",")
    config = decode(ExportConfig, {name: value for name, value in given.items() if value is not None})
    real = None if arguments.pairs is None else _real_pairs(arguments, samples)
    return export_data(config, samples, inputs.place(arguments), real=real)


def _real_pairs(arguments: argparse.Namespace, samples: Manifest) -> RealPairs:
    manifest = paired(arguments.pairs)
    pairs, known = PairSet.load(manifest.directory / "train"), inputs.remembered(manifest, arguments)
    if known is None:
        raise CorpusError(
            f"{manifest.directory}: the documents that were paired are gone: give --corpus CORPUS"
        )
    prepared, num_unique = known
    unique = prepared.unique(num_unique)
    refuse_other_documents(pairs, unique, prepared)
    config = config_of(manifest)
    model = None if arguments.model is None else load_model(inputs.model_folder(arguments.model))

    @functools.cache
    def embedder() -> Embedder:
        return fit_embedder(config.embedder, unique, model, seed=config.seed)

    def similarity(synthetic: Corpus, seeds: np.ndarray) -> np.ndarray:
        first, second = embedder().embed(unique.select(seeds)), embedder().embed(synthetic)
        return np.einsum("nd,nd->n", first, second)

    def quality() -> dict[str, dict[str, float]]:
        settings = QualityConfig(
            max_document_tokens=samples.config["max_document_tokens"],
            repetition=decode(RepetitionRule, samples.config["screen"]["repetition"]),
            seed=samples.config["seed"],
        )
        place = inputs.place(arguments, "quality")
        return _measures(quality_stage(settings, samples, unique, pairs, place).counts)

    found = {"pairing": manifest.fingerprint, **embedder_inputs(config.embedder, model)}
    return RealPairs(pairs=pairs, unique=unique, similarity=similarity, quality=quality, inputs=found)


def _measures(counts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the numbers of a quality report by measure: those of documents, then those of pairs."""
    return {
        name.replace("_", " "): {"synthetic": value, "real": counts[f"real_{kind}"][name]}
        for kind in ("documents", "pairs")
        for name, value in (counts[f"synthetic_{kind}"] or {}).items()  # None: samples without d1
        if isinstance(value, float)
    }
