"""The exported tokenizer: ours for transformers, in batches too, and no text becomes a special token."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hf_models import SMALL, TEXTS, random_model

from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.corpus import Corpus, CorpusConfig, Tokenizer, prepare_corpus
from sbp_bayes.corpus.tokenizer import SPECIAL_TOKENS
from sbp_bayes.lm import export_hf
from sbp_bayes.synthesizer import prompt_tokens


def test_the_exported_tokenizer_is_ours_with_eos_in_front(
    tmp_path: Path, transformers: ModuleType, tokenizer: Tokenizer
) -> None:
    export_hf(random_model(), tmp_path, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text, tokens in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
        assert theirs(text).input_ids == [0, *tokens]
        assert theirs.decode(tokens) == text
    ids = (theirs.bos_token_id, theirs.eos_token_id, theirs.sep_token_id, theirs.pad_token_id)
    assert ids == (0, 0, 1, 0)
    assert theirs.padding_side == "left"
    assert theirs.model_max_length == SMALL.context_length
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert again.fingerprint == tokenizer.fingerprint
    assert list(map(list, again.encode(TEXTS))) == list(map(list, tokenizer.encode(TEXTS)))


def test_transformers_generates_from_the_model_as_it_is(
    tmp_path: Path, transformers: ModuleType, tokenizer: Tokenizer
) -> None:
    export_hf(random_model(), tmp_path, tokenizer)
    settings = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).generation_config
    assert (settings.do_sample, settings.temperature, settings.top_k, settings.top_p) == (True, 1.0, 0, 1.0)
    assert (settings.eos_token_id, settings.suppress_tokens, settings.pad_token_id) == (0, [1], 0)


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_equals_single_rows(
    tmp_path: Path, transformers: ModuleType, tokenizer: Tokenizer, side: str
) -> None:
    model = random_model()
    export_hf(model, tmp_path, tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    texts = ["to be", "the cat sat on the mat; so it did. the cat", "", "that is the question"]
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path)
    batch = reader(texts, padding=True, return_tensors="pt", padding_side=side)
    assert batch["attention_mask"].sum() == sum(len(tokens) + 1 for tokens in tokenizer.encode(texts))
    logits = theirs(**batch).logits
    for row, text in enumerate(texts):
        alone = reader([text], return_tensors="pt")["input_ids"]
        expected, kept = theirs(alone).logits[0], logits[row][batch["attention_mask"][row].bool()]
        torch.testing.assert_close(kept, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(alone)[0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_padded_batch_is_continued_like_single_rows_up_to_eos(
    tmp_path: Path, transformers: ModuleType, tokenizer: Tokenizer
) -> None:
    export_hf(random_model(), tmp_path, tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = ["to be", "the cat sat on the mat", "question"]
    batch = reader(texts, padding=True, return_tensors="pt")
    settings = {"max_new_tokens": 40, "do_sample": False, "sequence_bias": [[[0], 1.2]]}
    together = theirs.generate(**batch, **settings)[:, batch["input_ids"].shape[1] :]
    lengths = []
    for row, text in enumerate(texts):
        prompt = reader([text], return_tensors="pt")
        alone = theirs.generate(**prompt, **settings)[0, prompt["input_ids"].shape[1] :]
        lengths.append(len(alone))
        assert torch.equal(together[row, : len(alone)], alone)
        assert (together[row, len(alone) :] == 0).all()
        assert (alone[:-1] != 0).all()  # the first EOS ends it
        assert 1 not in alone
    assert len(set(lengths)) > 1
    assert min(lengths) < 40


@pytest.mark.parametrize("name", [*SPECIAL_TOKENS, "<|sep|><|endoftext|>", "a <|endoftext|>b<|sep|> c"])
def test_a_document_that_spells_a_special_token_is_text_everywhere(
    tmp_path: Path, transformers: ModuleType, name: str
) -> None:
    """From the corpus over our tokenizer to the exported one, alone, in a batch and as a prompt."""
    texts = [f"{word} {name} and {word} again, which is a document of its own" for word in "abcdefgh"]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    shares = {"validation_share": 0.0, "test_share": 0.0, "dedup_threshold": 1.0}
    config = CorpusConfig(paths=(str(tmp_path / "texts.jsonl"),), vocab_size=270, min_chars=1, **shares)
    folder = prepare_corpus(config, tmp_path / "corpus", num_workers=1).directory
    corpus, tokenizer = Corpus.load(folder / "pool"), Tokenizer.load(folder / "tokenizer.json")
    assert sorted(corpus.texts) == texts
    assert corpus.tokens.min() > SEP
    export_hf(random_model(), tmp_path / "exported", tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    rows = theirs(list(corpus.texts), padding=True).input_ids
    for index, text in enumerate(corpus.texts):
        tokens = corpus.document(index).tolist()
        assert theirs(text).input_ids == [EOS, *tokens]
        assert rows[index][-len(tokens) - 1 :] == [EOS, *tokens]
        assert set(rows[index][: -len(tokens) - 1]) <= {EOS}
        assert tokenizer.decode(tokens) == theirs.decode(tokens) == text
        prompt = prompt_tokens(corpus.document(index), 20)
        assert prompt.tolist() == [EOS, *tokens[:20], SEP]
        assert theirs.decode(prompt, skip_special_tokens=True) == tokenizer.decode(tokens[:20])
