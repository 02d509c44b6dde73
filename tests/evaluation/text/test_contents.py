"""Personal data and benchmarks in text, by cases whose answer is known."""

import numpy as np
import pytest

from sbp_bayes.base.errors import CorpusError
from sbp_bayes.corpus import Corpus, Document, deduplicate
from sbp_bayes.evaluation.text.contents import Benchmark, personal_data, read_benchmark
from sbp_bayes.evaluation.text.coverage import cluster_coverage, duplicates_at, seed_coverage

E_MAIL, TELEPHONE, ADDRESS, CARD = (
    "e-mail address",
    "telephone number",
    "public IP address",
    "payment card number",
)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to ada.b+c@mail.example.org!", {E_MAIL}),
        ("call +49 30 1234567 or (555) 123-4567", {TELEPHONE}),
        ("555-123-4567", {TELEPHONE}),
        ("from 8.8.8.8 to 1.1.1.1.", {ADDRESS}),
        ("paid with 4111 1111 1111 1111.", {CARD}),
        ("4111111111111112, 0000 0000 0000 0000", set()),
        ("192.168.1.1, 10.0.0.1, 127.0.0.1, 300.1.1.1, v1.2.3.4, 1.2.3.4.5", set()),
        ("@handle a@b 1999-2003, 2020-12-31, 3.14159265358979, ISBN 978-3-16-148410-0", set()),
        ("", set()),
    ],
)
def test_kinds_of_personal_data(text, kinds):
    found = personal_data([text, ""])
    assert {kind for kind, number in found.items() if number} == (kinds | {"any"} if kinds else set())


def test_personal_data_takes_linear_time():
    for text in (
        "a@" * 100_000,
        "1.1.1." * 50_000,
        "+1 1 1 1 " * 50_000,
        "1 " * 100_000,
        "a." * 100_000 + "@",
    ):
        personal_data([text])  # quadratic forms would take minutes


def test_overlap_counts_items_and_texts():
    words = [f"word{i}" for i in range(20)]
    items = [" ".join(words[:13]), "Word5, " + "; ".join(words[6:20]), "too short", " ".join(words[::-1])]
    texts = ["x " + " ".join(words).upper() + " y", "nothing", " ".join(words[:12]), ""]
    found = Benchmark(items).overlap(texts)
    assert (found.items, found.too_short, found.items_found, found.texts_found) == (4, 1, 2, 1)
    assert Benchmark([]).overlap(texts).items_found == 0
    assert Benchmark(items).overlap([]).texts_found == 0


def test_ngrams_do_not_reach_from_one_text_into_the_next():
    words = [f"word{i}" for i in range(20)]
    halves = [" ".join(words[:10]), " ".join(words[10:])]
    assert Benchmark([" ".join(words)]).overlap(halves).items_found == 0
    assert Benchmark(halves).overlap([" ".join(words)]).too_short == 2


def test_items_are_all_strings_of_an_object(tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_text('{"q": "a b", "n": 3, "choices": {"text": ["c", "d"]}}\n\n["e"]\n')
    assert read_benchmark(path) == ["a b\nc\nd", "e"]
    path.write_text("\n")
    with pytest.raises(CorpusError, match="no items"):
        read_benchmark(path)


def of_texts(texts: list[str]) -> Corpus:
    documents = [Document(id=str(i), text=text, source="s") for i, text in enumerate(texts)]
    return Corpus.from_tokens(documents, [np.zeros(1, np.int64)] * len(texts), vocab_size=2)


def test_duplicates_among_the_first_are_those_of_the_first_alone():
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(list("abcdefgh"), 12)) for _ in range(60)]
    texts = [texts[i] for i in random.integers(0, 60, 100)] + [f"{texts[i]} {texts[i]}" for i in range(40)]
    texts += [f"{text} x" for text in texts[-40:]]
    order = random.permutation(len(texts))
    texts = [texts[i] for i in order]
    _, whole = deduplicate(texts)
    for number in (0, 1, 17, 90, 180, 500, *sorted(whole.duplicate_of)[:3]):
        assert whole.of_first(number) == deduplicate(texts[:number])[1]
    assert whole.exact > 10
    assert whole.near > 10


def test_duplicates_grow_with_the_number_of_documents(tmp_path):
    corpus = of_texts([f"{i % 30} one of thirty texts" for i in range(120)])
    found = duplicates_at(corpus, seed=0, sizes=(10, 60, 1000))
    assert list(found) == [10, 60]
    assert found[10]["exact"] < found[60]["exact"]
    assert found[60]["exact"] >= 0.5
    assert duplicates_at(corpus, seed=0, sizes=(1000,)) == {120: {"exact": 0.75, "near": 0.0}}
    corpus.save(tmp_path)
    assert duplicates_at(Corpus.load(tmp_path), seed=0, sizes=(10, 60, 1000)) == found


def test_coverage_of_seeds():
    found = seed_coverage(np.array([0, 0, 2, 0]), 4)
    assert found == {"share": 0.5, "expected": pytest.approx(1 - 0.75**4), "most_samples_of_one": 3}


def test_coverage_of_clusters_sees_a_mode_that_is_missing():
    random = np.random.default_rng(0)
    centres = np.eye(8)
    real = centres[np.arange(800) % 8] + 0.01 * random.standard_normal((800, 8))
    half = centres[np.arange(400) % 4] + 0.01 * random.standard_normal((400, 8))
    found = cluster_coverage(real, half, seed=0)
    assert found is not None
    assert found["real"] > 0.9
    assert found["synthetic"] < 0.6
    assert cluster_coverage(real[:10], half, seed=0) is None
