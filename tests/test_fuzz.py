"""Thousands of hostile files, drawn once and for all from those of `make fuzz`: each meets its verdict."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostile import assembler, inspector, workers
from hostile.campaign import count_outputs, is_noticed, is_refused_at_loading, list_keys, replay, tabulate
from hostile.generator import FAMILIES, generate, list_ids
from hostile.seeds import NAMES, make_seed
from hostile.verdicts import READ, REFUSED, Case, Result, Verdict, judge, naming
from hostile.workers import Finding, Pool

from cxrzoo.checkpoint import Tensor

#: How much of each section of the campaign is run here.
SHARES = {
    "calls": 500 / 29_956,
    "structures": 0.25,
    "budgets": 0.05,
    "lies": 0.04,
    "surgery": 0.5,
    "honest": 1,
    "mutants": 0.03,
    "prefixes": 0.04,
    "flips": 0.03,
}
LOADING_SHARES = {"headers": 1, "safetensors mutants": 0.03, "safetensors flips": 0.03}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """A process that opens checkpoints under an audit hook."""
    with Pool(1) as opened:
        yield opened


@pytest.fixture(scope="module")
def loading_pool() -> Iterator[Pool]:
    """The same for files that also stand in for promised weights."""
    with Pool(1, loading=True) as opened:
        yield opened


@pytest.mark.parametrize("section", SHARES)
def test_checkpoints_meet_their_verdict(pool: Pool, section: str) -> None:
    """Each file is read to the byte or refused by a typed error, as it must; small, fast, and nothing else happens."""
    found = list(pool.run(list_keys(section, SHARES[section])))
    assert found
    assert {} == {finding.key: finding for finding in found if finding.wrong}
    assert {} == {finding.key: finding.result.seconds for finding in found if finding.result.seconds > 2}
    assert {} == {finding.key: finding.result.grown for finding in found if finding.result.grown > 200}
    if section in ("mutants", "flips"):
        assert [] == [finding.key for finding in found if not is_noticed(finding)]
    if section == "mutants":
        assert count_outputs(found, pool).met


@pytest.mark.parametrize("title", ["all budgets, names", "all budgets, towers", "quoted text"])
def test_what_was_found_before_stays_mended(pool: Pool, title: str) -> None:
    """Files that once took too much time or memory do so no more."""
    (finding,) = pool.run([("structures", f"zip, with {title}", 0)])
    assert not finding.wrong
    assert finding.result.seconds <= 2
    assert finding.result.grown <= 200


@pytest.mark.parametrize("section", LOADING_SHARES)
def test_weights_meet_their_verdict(loading_pool: Pool, section: str) -> None:
    """Both readers of safetensors give the bytes of the file or a typed error, and load no changed file as promised."""
    found = list(loading_pool.run(list_keys(section, LOADING_SHARES[section])))
    assert found
    assert {} == {finding.key: finding for finding in found if finding.wrong}
    if section != "headers":
        assert [] == [finding.key for finding in found if not is_refused_at_loading(finding)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_case_is_the_same_every_time(family: str) -> None:
    """Family, id and seed determine every byte of a case, and its verdict."""
    for case in list_ids(family)[::50]:
        assert generate(family, case, 7) == generate(family, case, 7)
    assert len(list_ids(family)) == len(set(list_ids(family)))


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_is_the_same_every_time(name: str) -> None:
    """What mutants are made of does not depend on the addresses that torch names storages by."""
    first = make_seed(name)
    make_seed.cache_clear()
    assert first == make_seed(name)


def test_a_mutant_is_never_the_honest_file() -> None:
    """Every mutant and every flip changes something, or noticing it would mean nothing."""
    for kind, name, seed in ((kind, name, seed) for kind in ("mutant", "flip") for name in NAMES for seed in range(20)):
        assert generate("mutants", f"{kind}/{name}", seed).data != make_seed(name).data


def test_a_campaign_is_the_same_every_time(pool: Pool) -> None:
    """Two runs with the same seeds give equal tables of verdicts."""
    keys = [key for section in ("calls", "lies", "mutants") for key in list_keys(section, 0.005)]
    first, second = ([(each.key, each.result.summary) for each in pool.run(keys)] for _ in range(2))
    assert first == second


GOOD = (
    Finding(("mutants", "flip/zip", 0), READ, Result("read", "CRC-32", sha256="other", loading="DigestError"), ()),
    Finding(("mutants", "flip/zip", 1), REFUSED, Result("CheckpointError", "CRC-32", loading="DigestError"), ()),
)
SECTIONS = {section: list(GOOD) for section in ("bombs", *SHARES, *LOADING_SHARES)}


def test_the_table_is_met_where_all_is_well() -> None:
    """Every line of the table is met if every finding is as expected."""
    assert [] == [row for row in tabulate(SECTIONS) if not row.met]


@pytest.mark.parametrize(
    ("result", "missed"),
    [
        (Result("crashed"), "crashes"),
        (Result("read", seconds=6), "crashes"),
        (Result("read", seconds=3), "CPU time"),
        (Result("read", grown=201), "memory"),
        (Result("read", strays=("import",)), "imports"),
        (Result("read", faults=("bytes",)), "every byte"),
        (Result("read", loading="read"), "as promised weights"),
        (Result("read"), "CRC-32"),
        (Result("read", sha256=hashlib.sha256(make_seed("zip").data).hexdigest()), "noticed by a pinned"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_table_misses_what_went_wrong(result: Result, missed: str) -> None:
    """A single finding that differs is enough to miss a goal."""
    bad = Finding(("mutants", "flip/zip", 2), READ, result, ())
    rows = tabulate({section: [*findings, bad] for section, findings in SECTIONS.items()})
    assert any(missed in row.property for row in rows if not row.met)


def test_wrong_verdicts_miss_their_line() -> None:
    """What is wrong with a finding is counted in the line of its section."""
    bad = [*GOOD, dataclasses.replace(GOOD[1], wrong=("expected read",))]
    for section in ("calls", "structures", "lies", "surgery", "headers", "mutants", "prefixes", "safetensors flips"):
        assert 1 <= sum(not row.met for row in tabulate(SECTIONS | {section: bad})), section


def test_a_case_can_be_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    """A case by its family, id and seed is run anew, and says what it does."""
    assert 0 == replay(generate("calls", "os.system/reduce/value/zip", 2))
    assert "it names os.system" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Result("read"), REFUSED),
        (Result("CheckpointError"), READ),
        (Result("escaped", "TypeError: x"), REFUSED),
        (Result("crashed"), REFUSED),
        (Result("hung"), REFUSED),
        (Result("read", strays=("import x",)), READ),
        (Result("read", faults=("bytes",)), READ),
        (Result("UnsafeCheckpointError", "it names os.popen"), naming("os", "system")),
        (Result("CheckpointError", "it names os.system"), naming("os", "system")),
    ],
    ids=str,
)
def test_verdicts_can_fail(result: Result, expected: Verdict) -> None:
    """Whatever differs from what is expected is a finding."""
    assert judge(expected, result)


def test_the_audit_hook_sees_an_unpickler(pool: Pool) -> None:
    """The proof that nothing is imported is able to fail: pickle's own attempt to import the canary is seen."""
    data = assembler.program(assembler.styles(*assembler.CANARY)["reduce"])
    result = pool.ask(Case("none", "canary", 0, data, REFUSED), {"unpickle": True})
    assert any(stray.startswith("pickle.find_class") for stray in result.strays)
    assert any(stray.startswith("import") and "cxrzoo_canary" in stray for stray in result.strays)


@pytest.mark.parametrize(
    ("body", "expected"),
    [("while 1: pass", "hung"), ("os._exit(3)", "crashed"), ("os.kill(os.getpid(), 11)", "crashed")],
)
def test_deaths_and_hangs_are_seen_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, expected: str
) -> None:
    """A process that dies, or does not answer, is the result of the file in question, and the next one starts anew."""
    monkeypatch.setattr(workers, "HANG", 0.3)
    script = tmp_path / "script.py"
    answer = 'print(json.dumps({"outcome": "read"}), flush=True)'
    script.write_text(
        "import json, os, sys\nprint(json.dumps('ready'), flush=True)\n"
        f"for line in sys.stdin:\n    if 'bad' in line:\n        {body}\n    {answer}\n"
    )
    case = generate("calls", "os.system/reduce/value/zip", 2)
    with Pool(1, script=script) as opened:
        assert expected == opened.ask(case, {"bad": True}).outcome
        assert "read" == opened.ask(case, {}).outcome


@pytest.mark.parametrize("fake", [os.urandom, bytes], ids=["random", "zeros"])
def test_bytes_from_elsewhere_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: Callable[[int], bytes]
) -> None:
    """The proof that every byte is one of the file is able to fail."""
    path = tmp_path / "file"
    path.write_bytes(make_seed("zip").data)
    monkeypatch.setattr(Tensor, "read", lambda self: fake(self.nbytes))
    answer: dict[str, list[str]] = {"faults": []}
    inspector.check_bytes(path, answer)
    assert len(answer["faults"]) >= 7


def test_findings_are_kept(tmp_path: Path) -> None:
    """A case that goes wrong is kept as a file, beside what it takes to replay it."""
    case = generate("calls", "os.system/reduce/value/zip", 2)
    workers.save(tmp_path, case, Result("read"), ["expected refused, found read"])
    note, data = sorted(tmp_path.iterdir(), key=lambda path: path.suffix, reverse=True)
    assert case.data == data.read_bytes()
    assert "calls os.system/reduce/value/zip 2" in note.read_text(encoding="utf-8")
