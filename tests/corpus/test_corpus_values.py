"""Metadata: parquet's types with and without pandas, a value that costs itself alone, and chosen fields."""

import contextlib
import datetime
import decimal
import gzip
import json
import random
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.corpus import Corpus, CorpusConfig, RejectLog, prepare_corpus, read_documents
from sbp_bayes.corpus.compressed import PIECE_BYTES, Decompressed
from sbp_bayes.corpus.fields import Fields
from sbp_bayes.corpus.parquet import parquet_rows

SECOND = 10**9
NS, DURATION = pa.timestamp("ns"), pa.duration("ns")
TIME = "1970-01-01T00:00:00"
COLUMNS = {
    "ns": (pa.array([10**18 + 1, 0, None], NS), ["2001-09-09T01:46:40.000000001", TIME]),
    "us": (pa.array([10**15 + 1, 0, None], pa.timestamp("us")), ["2001-09-09T01:46:40.000001", TIME]),
    "before": (pa.array([-1, -SECOND, None], NS), ["1969-12-31T23:59:59.999999999", "1969-12-31T23:59:59"]),
    "utc": (
        pa.array([1, 0, None], pa.timestamp("ns", "UTC")),
        [f"{TIME}.000000001+00:00", f"{TIME}+00:00"],
    ),
    "mars": (
        pa.array([1, 0, None], pa.timestamp("ms", "Mars/Phobos")),
        [f"{TIME}.001+00:00", f"{TIME}.000+00:00"],
    ),
    "year": (pa.array([315569520000, 0, None], pa.timestamp("s")), ["11970-01-01T00:00:00.000", TIME]),
    "day": (pa.array([5_000_000, 0, None], pa.date32()), ["15659-07-15", "1970-01-01"]),
    "time": (pa.array([SECOND + 1, 0, None], pa.time64("ns")), ["00:00:01.000000001", "00:00:00"]),
    "duration": (pa.array([123456789, -SECOND, None], DURATION), [0.123456789, -1.0]),
    "long": (pa.array([10**17, 1, None], pa.duration("s")), [1e17, 1.0]),
    "decimal": (pa.array([decimal.Decimal("1.10"), decimal.Decimal(0), None]), ["1.10", "0.00"]),
    "half": (pa.array([1.5, -2, None], pa.float16()), [1.5, -2.0]),
    "null": (pa.nulls(3), [None, None]),
    "binary": (pa.array([b"a", b"\xff", None]), ["a", None]),
    "fixed": (pa.array([b"ab", b"\xff\xff", None], pa.binary(2)), ["ab", None]),
    "large": (pa.array(["a", "b", None], pa.large_string()), ["a", "b"]),
    "view": (pa.array(["a", "b", None], pa.string_view()), ["a", "b"]),
    "coded": (pa.array(["a", "b", None]).dictionary_encode(), ["a", "b"]),
    "map": (pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())), [[["a", 1]], []]),
    "map of times": (pa.array([[("a", 1)], [], None], pa.map_(pa.string(), DURATION)), [[["a", 1e-9]], []]),
    "times": (pa.array([[1, None], [], None], pa.list_(NS)), [[f"{TIME}.000000001", None], []]),
    "nested": (
        pa.array(
            [{"d": 1, "s": [b"\xff"]}, {"d": None, "s": [b"a"]}, None],
            pa.struct([("d", DURATION), ("s", pa.list_(pa.binary()))]),
        ),
        [None, {"d": None, "s": ["a"]}],
    ),
    "uuid": (
        pa.array([b"x" * 16, b"y" * 16, None], pa.uuid()),
        ["78" * 4 + "-7878" * 3 + "-" + "78" * 6, "79" * 4 + "-7979" * 3 + "-" + "79" * 6],
    ),
}
"""A column's values, of which the last is null, and what becomes of the others; None where they are lost."""

LOST = {"binary": 1, "fixed": 1, "nested": 1}
TEXTS = ["one", "two", "three"]


@pytest.mark.parametrize("name", COLUMNS)
def test_every_type_of_column_gives_its_values_or_loses_them_alone(tmp_path, name):
    column, expected = COLUMNS[name]
    good = pa.array([1, 2, 3])
    pq.write_table(pa.table({"good": good, name: column, "text": TEXTS}), tmp_path / "x.parquet")
    log = RejectLog()
    documents = list(read_documents(tmp_path / "x.parquet", rejects=log))
    assert [d.text for d in documents] == TEXTS
    assert [d.metadata["good"] for d in documents] == [1, 2, 3]
    assert json.loads(json.dumps([d.metadata.get(name) for d in documents])) == [*expected, None]
    assert log.lost_values == ({name: LOST[name]} if name in LOST else {})


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()],
)
def test_text_of_any_type(tmp_path, kind):
    texts = pa.array([text.encode() for text in TEXTS], pa.binary()).cast(pa.large_binary())
    column = texts.cast(pa.large_string()).cast(kind) if "string" in str(kind) else texts.cast(kind)
    pq.write_table(pa.table({"text": column}), tmp_path / "x.parquet")
    assert [d.text for d in read_documents(tmp_path / "x.parquet")] == TEXTS
    if "view" not in str(kind):
        pq.write_table(pa.table({"text": column.dictionary_encode()}), tmp_path / "x.parquet")
        assert [d.text for d in read_documents(tmp_path / "x.parquet")] == TEXTS


def test_values_that_json_lines_cannot_keep_are_counted(tmp_path):
    (tmp_path / "x.jsonl").write_text(
        '{"text": "a", "bad": "\\ud800", "url": "\\ud800", "label": {}, "n": 1}\n'
    )
    log = RejectLog()
    (document,) = read_documents(tmp_path / "x.jsonl", rejects=log)
    assert (document.metadata, document.url, document.label) == ({"n": 1}, None, None)
    assert log.lost_values == {"bad": 1, "url": 1, "label": 1}


PACK = {"gzip": gzip.compress, "zstd": zstandard.compress}


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES, 300_000])
def test_members_of_any_size_among_padding_and_before_rubbish(tmp_path, compression, size):
    """Sizes at which a piece, or the input for it, ends where the member does."""
    path, pack = tmp_path / "x", PACK[compression]
    for content in (bytes(size), random.Random(size).randbytes(size)):
        for padding in (0, 1, 512, 3 * PIECE_BYTES):
            members = pack(content) + bytes(padding) + pack(content) + bytes(padding)
            for rubbish in (b"", b"\n", b"rubbish" * 20_000):
                path.write_bytes(members + rubbish)
                with Decompressed(path, compression) as stream:
                    assert stream.readall() == 2 * content
                    assert stream.has_rubbish == bool(rubbish)
        path.write_bytes(pack(content)[:-1])
        with Decompressed(path, compression) as stream, pytest.raises(OSError, match="truncated"):
            stream.readall()


def test_all_before_a_damaged_byte_of_gzip_is_delivered(tmp_path):
    """As much as zlib has of it byte by byte, and no byte twice."""
    packed = bytearray(gzip.compress(bytes(random.Random(1).choices(b"abcdefgh\n", k=400_000))))
    for place in (30_000, 100_000, len(packed) - 100):
        damaged = packed[:place] + b"\xff\xff\xff" + packed[place + 3 :]
        (tmp_path / "x").write_bytes(damaged)
        byte_by_byte, member = bytearray(), zlib.decompressobj(wbits=31)
        with contextlib.suppress(zlib.error):
            for i in range(len(damaged)):
                byte_by_byte += member.decompress(damaged[i : i + 1])
        found = bytearray()
        with Decompressed(tmp_path / "x", "gzip") as stream, contextlib.suppress(OSError):
            while data := stream.read(1000):
                found += data
        assert abs(len(found) - len(byte_by_byte)) < 300  # what the damaged bytes themselves become
        shorter = min(len(found), len(byte_by_byte))
        assert found[:shorter] == byte_by_byte[:shorter]


@pytest.mark.parametrize("compression", PACK)
def test_bytes_between_two_members_are_damage(tmp_path, compression):
    member = PACK[compression](b"text")
    (tmp_path / "x").write_bytes(member + b"rubbish" + member)
    with Decompressed(tmp_path / "x", compression) as stream:
        assert stream.read(4) == b"text"
        with pytest.raises(OSError, match="other bytes between two members"):
            stream.read(4)


def test_windows_up_to_two_gibibytes(tmp_path):
    for window in (27, 28, 31):
        settings = zstandard.ZstdCompressionParameters.from_level(1, window_log=window, enable_ldm=True)
        compressor = zstandard.ZstdCompressor(compression_params=settings).compressobj()
        content = b"".join(b'{"text": "%d"}\n' % i for i in range(1000))
        path = tmp_path / f"w{window}.jsonl.zst"
        path.write_bytes(compressor.compress(content) + compressor.flush())
        assert len(list(read_documents(path))) == 1000


def test_zstd_of_runs_is_never_held(tmp_path):
    """A block of one repeated byte is 128 KiB of four bytes; 64 KiB of such blocks are 2 GiB."""
    import tracemalloc

    (tmp_path / "x.zst").write_bytes(zstandard.compress(bytes(1 << 26)))
    tracemalloc.start()
    with Decompressed(tmp_path / "x.zst", "zstd") as stream:
        total = 0
        while data := stream.read(1 << 16):
            total += len(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 1 << 26
    assert peak < 2_000_000


RECORD = {
    "text": "t",
    "url": "u",
    "label": "l",
    "language": "en",
    "embedding": [0.5, 1.5],
    "meta": {"a": 1, "b": {"c": 2, "d": 3}},
    "dotted.name": 4,
}
CHOICES = {
    "all": (Fields(), RECORD),
    "none": (Fields(keep=()), {"url": "u", "label": "l"}),
    "one": (Fields(keep=("language",)), {"url": "u", "label": "l", "language": "en"}),
    "nested": (Fields(keep=("meta.b.c", "absent")), {"url": "u", "label": "l", "meta": {"b": {"c": 2}}}),
    "dotted": (Fields(keep=("dotted.name",)), {"url": "u", "label": "l", "dotted.name": 4}),
    "less": (
        Fields(drop=("embedding", "meta.b", "url")),
        {"label": "l", "language": "en", "meta": {"a": 1}, "dotted.name": 4},
    ),
    "both": (
        Fields(keep=("meta",), drop=("meta.b.d", "absent.x")),
        {"url": "u", "label": "l", "meta": {"a": 1, "b": {"c": 2}}},
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_fields_can_be_chosen(tmp_path, choice, ending):
    fields, expected = CHOICES[choice]
    path = tmp_path / f"x{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist([RECORD]), path)
        (row,) = parquet_rows(path, "text", fields)
        assert row[1].keys() == expected.keys() | {"text"}  # other columns are not read at all
    else:
        path.write_text(json.dumps(RECORD, indent=1 if ending == ".json" else None))
    (document,) = read_documents(path, fields=fields)
    assert document.text == "t"
    assert (document.url, document.label) == (expected.get("url"), expected.get("label"))
    assert document.metadata == {k: v for k, v in expected.items() if k not in ("text", "url", "label")}


def texts(n: int) -> list[str]:
    return [" ".join(f"word{(i * k * k + i + k) % 991}" for k in range(60)) for i in range(n)]


def settings_for(path: Path, **settings) -> CorpusConfig:
    shares = {"validation_share": 0.2, "test_share": 0.2}
    return CorpusConfig(paths=(str(path),), vocab_size=300, **shares, **settings)


def test_large_metadata_are_said_once_and_can_be_left_out(tmp_path, said):
    for part in range(2):
        lines = [{"text": text, "n": 1, "vector": [i / 7] * 300} for i, text in enumerate(texts(40))]
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{part}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    whole = prepare_corpus(settings_for(tmp_path / "in"), tmp_path / "whole", num_workers=1)
    (line,) = [line for line in said if line.startswith("metadata take")]
    assert "most of it the field 'vector': --drop-fields" in line
    said.clear()
    less = prepare_corpus(settings_for(tmp_path / "in", drop_fields=("vector",)), tmp_path / "less")
    assert not [line for line in said if line.startswith("metadata take")]
    assert less.counts["metadata_bytes"] < whole.counts["metadata_bytes"] / 100
    assert less.config["drop_fields"] == ["vector"]
    pools = [Corpus.load(manifest.directory / "pool") for manifest in (whole, less)]
    assert pools[0].fingerprint == pools[1].fingerprint
    assert set(map(json.dumps, pools[1].metadata)) == {'{"n": 1}'}


def test_the_language_is_read_where_languages_are_chosen(tmp_path):
    lines = [{"text": t, "lang": "de" if i % 2 else "en", "n": i} for i, t in enumerate(texts(80))]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    config = settings_for(tmp_path / "x.jsonl", languages=("en",), keep_fields=())
    assert prepare_corpus(config, tmp_path / "out").counts["cleaned_away"] == {"in another language": 40}
    with pytest.raises(
        ConfigError, match=r"drop_fields = \['lang'\] is out of range: .* what says the language"
    ):
        settings_for(tmp_path / "x.jsonl", languages=("en",), drop_fields=("lang",))
    with pytest.raises(ConfigError, match="drop_fields = 'text'"):
        settings_for(tmp_path / "x.jsonl", drop_fields=("text",))


def test_dates_stay_as_they_were(tmp_path):
    days = [datetime.date(2020, 1, i) for i in (1, 2, 3)]
    pq.write_table(pa.table({"text": TEXTS, "day": days}), tmp_path / "x.parquet")
    assert [d.metadata["day"] for d in read_documents(tmp_path / "x.parquet")] == [
        day.isoformat() for day in days
    ]
