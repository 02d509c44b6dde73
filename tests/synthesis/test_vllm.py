"""vLLM's side of the exchange, with a stand-in that samples by our own decoder as vLLM would be asked to."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_synthesizer import Given, make_synthesizer

from sbp_bayes.base.errors import CheckpointError, ConfigError, CorpusError
from sbp_bayes.base.stage import read_manifest
from sbp_bayes.lm import export_hf, generate, load_model
from sbp_bayes.synthesis import (
    CORPUS,
    ImportConfig,
    RequestConfig,
    SeedDocuments,
    SynthesisConfig,
    import_samples,
    synthesize,
    vllm,
    write_requests,
)
from sbp_bayes.synthesis.vllm import VllmConfig, sample_requests


class SamplingParams:
    """What is asked for one prompt."""

    def __init__(self, **settings: Any) -> None:
        self.__dict__.update(settings)


class LLM:
    """vLLM's offline interface, as far as it is used: a closing EOS is shown, and log p is summed."""

    built: list[dict[str, Any]] = []  # noqa: RUF012 - cleared by the fixture
    asked: list[SamplingParams] = []  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        self.built.append(options)
        self._model = load_model(Path(options["model"]))

    def generate(self, prompts: list[Any], settings: list[SamplingParams], *, use_tqdm: bool) -> list[Any]:
        self.asked.extend(settings)
        drawn = generate(
            self._model,
            [np.array(prompt["prompt_token_ids"]) for prompt in prompts],
            max_new_tokens=[one.max_tokens for one in settings],
            stream_seeds=[one.seed for one in settings],
            temperature=settings[0].temperature,
            top_p=settings[0].top_p,
        )
        outputs = [
            types.SimpleNamespace(
                token_ids=(*g.tokens.tolist(), *[0] * g.finished),
                finish_reason="stop" if g.finished else "length",
                cumulative_logprob=-1.5,
            )
            for g in drawn
        ]
        return [types.SimpleNamespace(outputs=[output]) for output in outputs]


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module: Any = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(vllm, "_version", lambda: "0.0.test")
    yield
    LLM.built.clear()
    LLM.asked.clear()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return make_synthesizer(tmp_path_factory.mktemp("vllm"), context_length=26)


@pytest.fixture(scope="module")
def exported(given: Given) -> Path:
    """The synthesizer in Hugging Face's format."""
    export_hf(load_model(given.model_dir), given.model_dir.parent / "exported", given.tokenizer)
    return given.model_dir.parent / "exported"


@pytest.fixture(scope="module")
def requests(given: Given, exported: Path) -> Path:
    folder = given.model_dir.parent / "requests"
    config = RequestConfig(num_samples=60, max_document_tokens=12, shard_size=16, seed=5, temperature=1.25)
    write_requests(config, exported, SeedDocuments(given.corpus), folder, tokenizer=given.tokenizer)
    return folder


def test_its_samples_are_ours(given: Given, exported: Path, requests: Path, tmp_path: Path) -> None:
    """Whole, and in two parts of which the second is given first."""
    sample_requests(VllmConfig(), requests, exported, tmp_path / "whole")
    for part in (1, 2):
        sample_requests(VllmConfig(part=part, num_parts=2), requests, exported, tmp_path / f"part{part}")
    wanted = ImportConfig(num_tokens=150)
    import_samples(wanted, requests, [tmp_path / "whole"], tmp_path / "a", num_workers=1)
    parts = [tmp_path / f"part{i}" / "samples" for i in (2, 1)]
    import_samples(wanted, requests, parts, tmp_path / "b", num_workers=1)
    config = SynthesisConfig(num_tokens=150, max_document_tokens=12, shard_size=16, seed=5, temperature=1.25)
    source = SeedDocuments(given.corpus)
    synthesize(config, exported, source, tmp_path / "own", tokenizer=given.tokenizer, num_workers=1)
    for path in (tmp_path / "own" / CORPUS).iterdir():
        assert path.read_bytes() == (tmp_path / "a" / CORPUS / path.name).read_bytes()
        assert path.read_bytes() == (tmp_path / "b" / CORPUS / path.name).read_bytes()
    assert [len(list(part.iterdir())) for part in parts] == [2, 2]
    counts = read_manifest(tmp_path / "whole").counts
    assert counts["samples"] == 60
    assert 0 < counts["cut"] < 60


def test_what_vllm_is_asked_for(exported: Path, requests: Path, tmp_path: Path) -> None:
    """A seed of its own for each request, no settings but the request's, and room for the last draw."""
    sample_requests(VllmConfig(max_num_seqs=8, log_probs=True), requests, exported, tmp_path / "out")
    (options,) = LLM.built
    assert (options["skip_tokenizer_init"], options["generation_config"]) == (True, "vllm")
    assert options["max_model_len"] == options["hf_overrides"]["max_position_embeddings"] == 14 + 13
    assert options["max_num_seqs"] == 8
    assert len({one.seed for one in LLM.asked}) == 60
    assert all(one.logit_bias == {1: -100.0} and one.stop_token_ids == [0] for one in LLM.asked)
    assert {(one.temperature, one.top_p, one.max_tokens) for one in LLM.asked} == {(1.25, 1.0, 13)}
    assert {one.logprobs for one in LLM.asked} == {0}


def test_a_shard_that_is_there_is_not_sampled_again(exported: Path, requests: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sample_requests(VllmConfig(), requests, exported, out)
    kept = {path: path.read_bytes() for path in (out / "samples").iterdir()}
    lost = out / "samples" / "0000000016.jsonl.zst"
    (out / "manifest.json").unlink()
    lost.unlink()
    LLM.built.clear()
    LLM.asked.clear()
    sample_requests(VllmConfig(), requests, exported, out)
    assert len(LLM.asked) == 16
    assert {path: path.read_bytes() for path in (out / "samples").iterdir()} == kept
    (out / "manifest.json").unlink()
    LLM.built.clear()
    sample_requests(VllmConfig(), requests, exported, out)
    assert LLM.built == []


def test_another_model_and_no_vllm(
    given: Given, exported: Path, requests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        CheckpointError, match=r"model: the requests are for model \w{16}, and this is \w{16}"
    ):
        sample_requests(VllmConfig(), requests, given.model_dir, tmp_path / "out")
    with pytest.raises(CorpusError, match="holds no requests"):
        sample_requests(VllmConfig(), tmp_path, exported, tmp_path / "out")
    with pytest.raises(ConfigError, match="part = 3 is out of range: expected 1 to 2"):
        VllmConfig(part=3, num_parts=2)
    monkeypatch.undo()
    monkeypatch.setattr(vllm, "DISTRIBUTIONS", ("no-such-engine",))
    with pytest.raises(ConfigError, match="vLLM is not installed here"):
        sample_requests(VllmConfig(), requests, exported, tmp_path / "out")
    assert not (tmp_path / "out").exists()
