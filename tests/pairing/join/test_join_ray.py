"""The join by a local Ray of two workers: the same bits as in this process, whoever is killed on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sbp_bayes.base.errors import PairingError
from sbp_bayes.cli import main
from sbp_bayes.pairing import Join, PairSet, RayEngine, find_neighbours
from sbp_bayes.pairing.join import ray_engine
from sbp_bayes.pairing.join.salted import best_by_document
from sbp_bayes.pairing.neighbours import unit_rows
from sbp_bayes.pairing.records import Edges
from sbp_bayes.pairing.search.exact import exact_neighbours
from sbp_bayes.pairing.search.hnsw import refuse_repeated

ray = pytest.importorskip("ray")

# Ray leaves its own sockets and log files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def processes_of(text):
    """Numbers of the processes whose command line has `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and text in (entry / "cmdline").read_bytes().decode(errors="replace"):
                found.append(int(entry.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


@pytest.fixture(scope="module")
def engine():
    """One local Ray for all tests here; an engine uses the Ray that runs already."""
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    engine = RayEngine()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_engine, "usable_cores", lambda: 2)
        with engine.start():
            assert ray.cluster_resources()["CPU"] == 2
            yield engine
    assert not ray.is_initialized()


def vectors(num_rows, width=48):
    rows = np.random.default_rng(0).normal(size=(num_rows, width))
    rows[::5] = rows[::10].repeat(2, axis=0)[: len(rows[::5])]
    return rows


def same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_ray_gives_the_same_bits_with_few_questions_under_way(engine, monkeypatch):
    """Two a shard are under way, however many there are, so that the object store stays small."""
    under_way, wait = [], ray.wait

    def counted(refs, **settings):
        under_way.append(len(refs))
        return wait(refs, **settings)

    monkeypatch.setattr(ray, "wait", counted)
    rows = vectors(1500)
    here, by_ray = (
        find_neighbours(rows, 7, "hnsw", join=Join(num_shards=3, queries_at_once=100, **how))
        for how in ({}, {"engine": engine})
    )
    same(by_ray[0], here[0])
    assert by_ray[1] == here[1]
    assert max(under_way) == 6


def test_ray_groups_pairs_alike(engine):
    generator = np.random.default_rng(0)
    first, second = np.unique(generator.integers(40, size=(900, 2)), axis=0).T.copy()
    first[:200] = 0
    edges = Edges(first=first, second=second, similarity=generator.random(len(first)).astype(np.float32))
    with engine.start() as session:
        found, balance = best_by_document(edges, 5, session=session, num_reducers=4)
        truth, _ = best_by_document(edges, 5, session=session, num_reducers=1)
    same((found.first, found.second, found.similarity), (truth.first, truth.second, truth.similarity))
    assert balance.largest_share < balance.largest_share_unsalted


def wait_for(condition, seconds=60):
    """Poll until the condition holds; return what it gives."""
    deadline = time.monotonic() + seconds
    while not (given := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return given


def two_hosts():
    hosts = processes_of("ray::ShardHost")
    return hosts if len(hosts) == 2 else []


def test_a_worker_killed_in_the_middle_loses_nothing(engine, tmp_path, monkeypatch):
    """An actor's process is killed after three parts of eighteen; six at most were asked for until then."""
    rows, taken, killed = vectors(3000), [], []
    answers = ray_engine._HeldShards.answers

    def kill_on_the_way(*arguments):
        for answer in answers(*arguments):
            taken.append(answer[:2])
            if len(taken) == 3:
                killed.extend(wait_for(two_hosts))
                os.kill(killed[0], signal.SIGKILL)
            yield answer
        hosts = wait_for(two_hosts)
        assert killed[0] not in hosts
        assert killed[1] in hosts

    monkeypatch.setattr(ray_engine._HeldShards, "answers", kill_on_the_way)
    join = Join(num_shards=3, queries_at_once=500, engine=engine, scratch=tmp_path)
    found, _ = find_neighbours(rows, 6, "exact", join=join)
    assert killed
    assert sorted(taken) == [(block, shard) for block in range(6) for shard in range(3)]
    same(found, find_neighbours(rows, 6, "exact")[0])


@pytest.mark.parametrize(
    ("failing", "error", "message"),
    [
        ("put", "ObjectStoreFullError", "object store is full"),
        ("wait", "NodeDiedError", "Ray lost its workers"),
    ],
)
def test_errors_of_ray_are_one_line(engine, monkeypatch, failing, error, message):
    def fail(*_, **__):
        raise getattr(ray.exceptions, error)("one line\nand another")

    monkeypatch.setattr(ray, failing, fail)
    with pytest.raises(PairingError, match=message) as caught:
        find_neighbours(vectors(60), 3, join=Join(engine=engine))
    assert "\n" not in str(caught.value)
    assert "the same command goes on" in str(caught.value)


def test_what_a_worker_raises_is_told_as_here(engine):
    with pytest.raises(PairingError) as caught, engine.start() as session:
        session.map(refuse_repeated, [np.array([3]), np.array([7, 7])])
    assert str(caught.value) == "id 7 occurs more than once (1 such ids)"


def test_workers_without_the_package_are_named(engine):
    """A function of this file, which workers can't import, stands for a package that they lack."""
    with pytest.raises(PairingError) as caught, engine.start() as session:
        session.map(processes_of, ["x"])
    assert "workers lack something (ModuleNotFoundError: No module named 'test_join_ray')" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("address", "reason"), [("127.0.0.1:1", "refused"), ("nonsense", "invalid")])
def test_unreachable_address_is_named_at_once(address, reason):
    started = time.monotonic()
    with pytest.raises(PairingError, match=f"no Ray cluster answers at {address} .*{reason}") as caught:
        ray_engine._cluster(ray, address).__enter__()
    assert "leave the address out" in str(caught.value)
    assert time.monotonic() - started < 2 * ray_engine.CONNECT_SECONDS


def test_missing_ray_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PairingError, match=r"pip install 'sbp_bayes\[scale\]'"), RayEngine().start():
        pass


DRIVER = """
import sys
from pathlib import Path
import numpy as np
from sbp_bayes.pairing import Join, RayEngine, find_neighbours
rows = np.random.default_rng(0).normal(size=(6000, 64))
join = Join(num_shards=2, queries_at_once=100, engine=RayEngine(sys.argv[1]), scratch=Path(sys.argv[2]))
find_neighbours(rows, 5, "exact", join=join)
"""


def test_a_killed_driver_leaves_its_parts_and_no_worker_on_the_cluster(engine, tmp_path, monkeypatch):
    """Another process joins this one's Ray by its address, and is killed in the middle of a join."""
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", DRIVER, address, str(tmp_path)]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    ours = set(processes_of("ray::ShardHost"))
    with subprocess.Popen(command, env=os.environ | paths, stderr=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("??????.part")):
            assert process.poll() is None
            time.sleep(0.01)
        workers = set(processes_of("ray::ShardHost")) - ours
        process.kill()
    assert len(workers) == 2
    wait_for(lambda: not workers & set(processes_of("ray::ShardHost")))
    kept = {path.name for path in tmp_path.glob("*.part")}
    blocks = {name for name in kept if "-" not in name}
    assert 0 < len(blocks) < 60
    asked = []
    answers = ray_engine._HeldShards.answers

    def noted(*arguments):
        for answer in answers(*arguments):
            asked.append(answer[:2])
            yield answer

    monkeypatch.setattr(ray_engine._HeldShards, "answers", noted)
    rows = np.random.default_rng(0).normal(size=(6000, 64))
    how = {"num_shards": 2, "queries_at_once": 100}
    found, _ = find_neighbours(rows, 5, "exact", join=Join(engine=engine, scratch=tmp_path, **how))
    assert len(asked) == 120 - 2 * len(blocks) - len(
        {n for n in kept - blocks if f"{n[:6]}.part" not in blocks}
    )
    same(found, exact_neighbours(unit_rows(rows), 5, np.arange(6000)))


def test_command_line_pairs_by_ray_as_by_itself(engine, tmp_path, capsys, monkeypatch):
    addresses = []
    monkeypatch.setattr("sbp_bayes.cli.stages.RayEngine", lambda address: addresses.append(address) or engine)
    words = [
        f"{a}{b}{c}" for a in ("bad", "kel", "lor", "min") for b in "aeiou" for c in ("gor", "har", "fin")
    ]
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(words, 32)) for _ in range(240)]
    lines = [json.dumps({"text": text}) for text in texts]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    corpus = str(tmp_path / "corpus")
    assert main(["corpus", str(tmp_path / "texts.jsonl"), "--vocab-size", "300", "--out", corpus]) == 0, (
        capsys.readouterr()
    )
    pair = ["pair", corpus, "--alpha", "0", "--set", "embedder.dimension=4", "--out"]
    assert main([*pair, str(tmp_path / "here")]) == 0
    assert (
        main([*pair, str(tmp_path / "by_ray"), "--engine", "ray", "--address", "a:1", "--shards", "3"]) == 0
    )
    assert addresses == ["a:1"]
    assert "search shards" in " ".join(capsys.readouterr().out.split())
    here, by_ray = (PairSet.load(tmp_path / name / "train") for name in ("here", "by_ray"))
    assert here.fingerprint == by_ray.fingerprint
    assert (here.search["shards"], by_ray.search["shards"]) == (1, 3)
    assert main([*pair, str(tmp_path / "here"), "--shards", "2"]) == 0  # is finished: shards aren't planned
    capsys.readouterr()
    for more, message in (
        (("--address", "auto"), "--address auto needs --engine ray"),
        (("--shards", "0"), "num_shards = 0 is out of range"),
    ):
        assert main([*pair, str(tmp_path / "new"), *more]) == 2
        assert message in capsys.readouterr().err
