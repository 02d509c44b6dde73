"""Qwen3-Embedding and sentence-transformers, by tiny random models in local folders."""

import sys

import numpy as np
import pytest
import torch

from sbp_bayes.base.errors import ConfigError, PairingError
from sbp_bayes.corpus import Corpus, train_tokenizer
from sbp_bayes.pairing import EmbedderConfig, Qwen3Embedder, SentenceEmbedder, fit_embedder
from sbp_bayes.pairing.embed import batches
from sbp_bayes.pairing.embed.table import embedder_device, embedder_inputs

WORDS = "river lake water fish boat shore proof theorem lemma number algebra field".split()  # noqa: SIM905
TEXTS = [" ".join(WORDS[i % 12] for i in range(first, first + n)) for first, n in enumerate([3, 9, 1, 30, 5])]
TEXTS += ["", "lake <|endoftext|> boat"]
CORPUS = Corpus.build(TEXTS, train_tokenizer(TEXTS, 300))
END = 151643


def save_tokenizer(folder, special, **settings):
    """Save a tokenizer of words; returns it. `special` gives the special tokens' ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = special | {word: 10 + i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template, names = settings.pop("template")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(name, special[name]) for name in names]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **settings)
    fast.save_pretrained(folder)
    return fast


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    """A Qwen3 of width 8 whose tokenizer appends the token by itself too, as the released one does."""
    from transformers import Qwen3Config, Qwen3Model

    folder = tmp_path_factory.mktemp("qwen3")
    special = {"[UNK]": 1, "<|endoftext|>": END}
    save_tokenizer(
        folder, special, template=("$A <|endoftext|>", ["<|endoftext|>"]), pad_token="<|endoftext|>"
    )
    config = Qwen3Config(
        vocab_size=END + 2,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen3Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sentence(tmp_path_factory):
    """A BERT of width 8 with mean pooling and no normalisation of its own."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    root = tmp_path_factory.mktemp("sentence")
    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    template = ("[CLS] $A [SEP]", ["[CLS]", "[SEP]"])
    save_tokenizer(root / "bert", special, template=template, model_max_length=16, **names)
    config = BertConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(root / "bert")
    transformer = Transformer(str(root / "bert"))
    pooling = Pooling(transformer.get_embedding_dimension())
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(root / "model"))
    return root / "model"


def last_state(folder, ids):
    """The final hidden state at the end of `ids`, one row, as a unit vector."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        state = model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1].numpy()
    return state / np.linalg.norm(state)


def test_qwen3_is_the_state_at_the_appended_token(qwen3):
    embedder = Qwen3Embedder(str(qwen3))
    words = {word: 10 + i for i, word in enumerate(WORDS)} | {"<|endoftext|>": END}
    ids = [[*(words[word] for word in text.split()), 151643] for text in TEXTS]
    assert embedder.token_ids(TEXTS) == ids
    vectors = embedder.embed(CORPUS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [last_state(qwen3, row) for row in ids], rtol=0, atol=1e-6)
    assert embedder.num_truncated(CORPUS) == 0
    layers = 2 * (8 * (8 + 4 + 4) + 8 * 8 + 3 * 8 * 16 + 2 * 8 + 2 * 4) + 8
    assert embedder.flops(CORPUS) == 2 * layers * sum(len(row) for row in ids)


def test_qwen3_alone_is_as_in_a_batch(qwen3, monkeypatch):
    embedder = Qwen3Embedder(str(qwen3))
    alone = np.concatenate([embedder.embed_texts([text]) for text in TEXTS])
    assert len(batches.batches_by_length(np.ones(len(TEXTS), int))) == 1
    np.testing.assert_allclose(embedder.embed(CORPUS), alone, rtol=0, atol=1e-6)
    monkeypatch.setattr(batches, "WINDOW", 2)
    parts = [embedder.embed(CORPUS.select(range(i, min(i + 2, 7)))) for i in range(0, 7, 2)]
    np.testing.assert_array_equal(embedder.embed(CORPUS), np.concatenate(parts))


def test_qwen3_cuts_before_the_appended_token(qwen3):
    whole, cut = Qwen3Embedder(str(qwen3)), Qwen3Embedder(str(qwen3), max_tokens=6)
    assert cut.token_ids(TEXTS) == [[*row[:-1][:5], 151643] for row in whole.token_ids(TEXTS)]
    assert cut.num_truncated(CORPUS) == 2  # of 9 and 30 words; the one of 5 just fits
    for limit, number in ((9, 2), (10, 1)):
        assert Qwen3Embedder(str(qwen3), max_tokens=limit).num_truncated(CORPUS) == number
    first = [" ".join(text.split()[:5]) for text in TEXTS]
    np.testing.assert_allclose(cut.embed(CORPUS), whole.embed_texts(first), rtol=0, atol=1e-6)
    assert cut.fingerprint != whole.fingerprint == Qwen3Embedder(str(qwen3), max_tokens=64).fingerprint
    for wrong in (1, 65):
        with pytest.raises(ConfigError, match=f"max_tokens = {wrong} is out of range: expected 2 to .* 64"):
            Qwen3Embedder(str(qwen3), max_tokens=wrong)


def test_sentence_is_the_librarys_own_encode(sentence):
    from sentence_transformers import SentenceTransformer

    embedder = SentenceEmbedder(str(sentence))
    library = SentenceTransformer(str(sentence), device="cpu")
    wanted = library.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_array_equal(embedder.embed(CORPUS), wanted)
    np.testing.assert_allclose(np.linalg.norm(wanted, axis=1), 1.0, atol=1e-6)
    assert embedder.num_truncated(CORPUS) == 1  # 30 words, [CLS] and [SEP] are more than 16
    tokens = sum(min(len(text.split()) + 2, 16) for text in TEXTS)
    layers = 2 * (4 * 8 * 9 + 8 * 17 + 16 * 9 + 4 * 8) + 8 * 9 + 2 * 8  # and the pooler, and the first norm
    assert embedder.flops(CORPUS) == 2 * layers * tokens


def test_sentence_reads_as_much_as_it_is_told(sentence):
    cut = SentenceEmbedder(str(sentence), max_tokens=5)
    first = [" ".join(text.split()[:3]) for text in TEXTS]
    whole = SentenceEmbedder(str(sentence))
    np.testing.assert_allclose(cut.embed(CORPUS), whole.embed_texts(first), rtol=0, atol=1e-6)
    assert cut.num_truncated(CORPUS) == 3
    assert cut.fingerprint != whole.fingerprint
    with pytest.raises(ConfigError, match="max_tokens = 17 is out of range: expected 3 to the model's 16"):
        SentenceEmbedder(str(sentence), max_tokens=17)


def test_sentence_vectors_depend_on_their_window_alone(sentence, monkeypatch):
    embedder = SentenceEmbedder(str(sentence))
    monkeypatch.setattr(batches, "WINDOW", 3)
    parts = [embedder.embed(CORPUS.select(range(i, min(i + 3, 7)))) for i in range(0, 7, 3)]
    np.testing.assert_array_equal(embedder.embed(CORPUS), np.concatenate(parts))
    assert len(embedder.embed_texts([])) == 0


@pytest.mark.parametrize("kind", ["qwen3", "sentence"])
def test_by_name_with_the_models_files_in_the_plan(kind, request):
    folder = request.getfixturevalue(kind)
    config = EmbedderConfig(kind=f"{kind}:{folder}", max_tokens=12)
    embedder = fit_embedder(config, CORPUS)
    assert type(embedder) is {"qwen3": Qwen3Embedder, "sentence": SentenceEmbedder}[kind]
    assert embedder.max_tokens == 12
    before, fingerprint = embedder_inputs(config), embedder.fingerprint
    (folder / "README.md").write_text("words")
    assert embedder_inputs(config) != before
    assert fit_embedder(config, CORPUS).fingerprint != fingerprint


def write_config(folder, text):
    folder.mkdir()
    (folder / "config.json").write_text(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no config.json"),
        ("{", "config.json: damaged"),
        ("[]", "the model's type is None"),
        ('{"model_type": "bert"}', "the model's type is 'bert', and the qwen3 embedder needs 'qwen3'"),
        ('{"model_type": "qwen3", "vocab_size": 151643}', "its 151643 token ids lack 151643"),
        ('{"model_type": "qwen3", "vocab_size": 151644}', "cannot be loaded"),
    ],
)
def test_a_folder_that_is_no_qwen3_is_named(tmp_path, content, message):
    folder = tmp_path / "model"
    if content is None:
        folder.mkdir()
    else:
        write_config(folder, content)
    with pytest.raises(ValueError, match=message) as raised:
        Qwen3Embedder(str(folder))
    assert isinstance(raised.value, PairingError) or content == "{"
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_weights_that_are_damaged_or_lack_a_part_are_refused(qwen3, tmp_path):
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((qwen3 / name).read_bytes())
    weights = load_file(qwen3 / "model.safetensors")
    weights.pop("layers.1.mlp.up_proj.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PairingError, match=r"the weights lack layers\.1\.mlp\.up_proj\.weight"):
        Qwen3Embedder(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(PairingError, match="cannot be loaded"):
        Qwen3Embedder(str(tmp_path))


def test_a_folder_without_a_sentence_model_is_named(tmp_path):
    with pytest.raises(PairingError, match=r"neither modules\.json nor config\.json"):
        SentenceEmbedder(str(tmp_path))
    write_config(tmp_path / "x", "{}")
    with pytest.raises(PairingError, match="x: cannot be loaded"):
        SentenceEmbedder(str(tmp_path / "x"))


@pytest.mark.parametrize("kind", ["qwen3", "sentence"])
def test_a_name_that_cannot_be_had_says_how_to_name_a_folder(tmp_path, monkeypatch, kind):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    embedder = {"qwen3": Qwen3Embedder, "sentence": SentenceEmbedder}[kind]
    with pytest.raises(PairingError) as raised:
        embedder("owner/name")
    message = str(raised.value)
    assert message.startswith(f"the {kind} embedder finds no folder 'owner/name', and cannot get a model")
    assert message.endswith(f"give a local folder as --embedder {kind}:FOLDER")
    assert "\n" not in message
    (tmp_path / "file").write_text("")
    with pytest.raises(PairingError, match="file: is a file"):
        embedder(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("kind", "package"), [("qwen3", "transformers"), ("sentence", "sentence_transformers")]
)
def test_a_missing_package_names_the_extra(kind, package, request, monkeypatch):
    folder = request.getfixturevalue(kind)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PairingError, match=rf"needs {package}: run `pip install 'sbp_bayes\[hf\]'`"):
        fit_embedder(EmbedderConfig(kind=f"{kind}:{folder}"), CORPUS)


@pytest.mark.parametrize("kind", ["qwen3", "sentence"])
def test_plan_and_vectors_are_named_by_the_device(kind, request, monkeypatch):
    config = EmbedderConfig(kind=f"{kind}:{request.getfixturevalue(kind)}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (embedder_device(config), embedder_device(EmbedderConfig())) == ("cuda", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert embedder_device(config) == "cpu"
    embedder = fit_embedder(config, CORPUS)
    on_cpu = embedder.fingerprint
    embedder._model.to("meta")
    assert embedder.fingerprint != on_cpu
