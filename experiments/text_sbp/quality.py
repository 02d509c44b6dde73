"""How good the synthetic text is, beside real text by the same measures: a stage of the experiment."""

from experiments.text_sbp.config import TextSbpConfig
from sbp_bayes.base.stage import Manifest, Outcome, StageFolder, Workspace, plan_stage, run_stage
from sbp_bayes.comparison import Made
from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.evaluation import QualityConfig, measure_quality
from sbp_bayes.lm import load_model
from sbp_bayes.pairing import embedder_device, fit_embedder
from sbp_bayes.synthesis import CORPUS


def quality_stage(
    config: TextSbpConfig, seed: int, unique: Corpus, made: Made, work: Workspace, *, tokenizer: Tokenizer
) -> Manifest:
    """Measure the synthetic corpus of one seed, and the real pairs that taught the synthesizer.

    The manifest's counts are what `measure_quality` returns.
    """
    start, samples, pairs = made.start, made.samples, made.pairs
    inputs = {
        "start": start.fingerprint,
        "pairs": pairs.train.fingerprint,
        "synthesis": samples.fingerprint,
    }
    settings = QualityConfig(
        max_document_tokens=config.tune.max_document_tokens,
        repetition=config.screen.repetition,
        seed=seed,
    )
    plan = plan_stage(
        "quality",
        {"quality": settings, "pairs": config.pairs},
        inputs,
        __name__,
        device=embedder_device(config.pairs.embedder),
    )

    def measure(folder: StageFolder) -> Outcome:
        model = load_model(start.directory / "best")
        embedder = fit_embedder(config.pairs.embedder, unique, model, seed=config.pairs.seed)
        synthetic = Corpus.load(samples.directory / CORPUS)
        return Outcome(
            counts=measure_quality(
                settings, synthetic, unique, tokenizer=tokenizer, embed=embedder.embed, pairs=pairs.train
            )
        )

    return run_stage(plan, work, measure)
