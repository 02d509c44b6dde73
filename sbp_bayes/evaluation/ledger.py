"""The compute ledger: floating-point operations that an arm takes in all, counted alike everywhere.

Counted in the manifest of each stage, with N the parameters that multiply (see `LMConfig`) and T positions:

- training and tuning: 6·N·T, the padding of packed rows included, and 2·N·T of every validation;
- pairing: fitting the embedder, 2·N·T of embedding, and the products of the search for neighbours;
- synthesis: 2·N·T of prompts (prefill) and of sampled tokens (decoding), dropped samples included;
- scoring: 2·N·T.

Not counted: the products of queries, keys and values, which grow with the context; optimisers' steps;
reading, de-duplication, tokenisation and screening, which have no floating-point work to speak of; training
positions that were computed again after a kill.
"""

from collections.abc import Iterable

from sbp_bayes.base.stage import Manifest


def arm_flops(trained: Manifest, needed: Iterable[Manifest] = (), *, steps: int | None = None) -> float:
    """Return the operations that an arm takes until its weights are there.

    It needs every stage without which it would have other weights: what came before (of SBP the baseline, the
    pairs, the tuning and the synthesis) and, where validation chose among several trainings, the others that
    were tried. What only measures an arm, as its scores on test or the quality of its text, is not counted.

    Args:
        trained: the pretraining of the arm's weights.
        needed: the other stages; each counts once, however often it is named.
        steps: of `trained`, up to the weights that are meant; None: all.
    """
    others = {stage.fingerprint: stage.flops for stage in needed if stage.fingerprint != trained.fingerprint}
    part = 1.0 if steps is None else steps / trained.counts["num_steps"]
    return part * trained.flops + sum(others.values())
