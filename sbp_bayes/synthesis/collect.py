"""From samples to the synthetic corpus: the screen takes them in order until enough tokens are kept."""

from collections.abc import Iterable, Sequence

import numpy as np

from sbp_bayes.base.progress import progress
from sbp_bayes.base.stage import Outcome, StageFolder
from sbp_bayes.corpus import Corpus, Document, Tokenizer
from sbp_bayes.lm import LMConfig
from sbp_bayes.synthesis.screen import Screen
from sbp_bayes.synthesis.shards import Shard
from sbp_bayes.synthesis.sources import Prompt

CORPUS, SHARDS = "corpus", "shards"


def shard_name(first: int) -> str:
    """Return the name, without an ending, of the shard that begins with sample `first`."""
    return f"{first:010d}"


def collect(
    shards: Iterable[tuple[Shard, Sequence[Prompt]]],
    screen: Screen,
    folder: StageFolder,
    *,
    tokenizer: Tokenizer,
    model: LMConfig,
) -> Outcome:
    """Write what `screen` keeps of `shards` to `folder/corpus`.

    Args:
        shards: consecutive samples in order, each shard with its samples' prompts, until `screen` is full.
        screen: which samples pass, and how many tokens are wanted.
        folder: the stage's.
        tokenizer: turns samples into text.
        model: shape of the model that was sampled from.

    Returns:
        counts of samples taken, kept and dropped by reason, and the tokens sampled; FLOPs are
        2·N·(|d1| + |d2|) over all samples drawn.

    Raises:
        CorpusError: hardly any sample passes the screen.
    """
    kept: list[tuple[Document, np.ndarray, bool]] = []
    prompt_positions = sampled_tokens = 0
    with progress("synthesising", screen.num_tokens, "tokens") as advance:
        for shard, prompts in shards:
            before = screen.kept_tokens
            taken = screen.take(shard, [prompt.seed_document for prompt in prompts])
            kept += [_record(shard, i, prompts[i], tokenizer) for i in taken]
            prompt_positions += sum(len(prompt.tokens) for prompt in prompts)
            sampled_tokens += len(shard.tokens) + len(shard)
            advance(min(screen.kept_tokens, screen.num_tokens) - before)
            folder.tick()
    documents, tokens, complete = zip(*kept, strict=True)
    synthetic = Corpus.from_tokens(documents, tokens, vocab_size=model.vocab_size, complete=complete)
    synthetic.save(folder.path / CORPUS)
    counts = dict(screen.counts) | {
        "tokens": screen.kept_tokens,
        "seed_documents": len({d.metadata.get("seed_index") for d in documents} - {None}),
        "prompt_tokens": prompt_positions,
        "sampled_tokens": sampled_tokens,
    }
    flops = model.forward_flops_per_token * (prompt_positions + sampled_tokens)
    return Outcome(counts=counts, flops=flops)


def _record(
    shard: Shard, index: int, prompt: Prompt, tokenizer: Tokenizer
) -> tuple[Document, np.ndarray, bool]:
    sample, tokens = shard.first + index, shard.sample(index)
    document = Document(
        id=f"synthetic:{sample}",
        text=tokenizer.decode(tokens),
        source="synthetic",
        metadata={**prompt.metadata, "sample": sample},
    )
    return document, tokens, bool(shard.finished[index])
