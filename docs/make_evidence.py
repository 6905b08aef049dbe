"""Measures what docs/evidence.toml says of the open weights: docs/evidence/, from which docs/open-weights.md is made.

What is measured already, of the same weights and tables, is left as it is; what takes long is kept in report/evidence/
and goes on where it was stopped. Models that are not there yet are left out.
"""

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from evidence_bench import DOCS, HUB, PROTOCOL, SEED, Bench
from evidence_questions import QUESTIONS

from cxrzoo.evaluation.plates import draw_evidence
from cxrzoo.evaluation.proofs import FOUND, Evidence, read_all, read_evidence, write_evidence
from cxrzoo.evaluation.sampling.protocols import load_protocol
from cxrzoo.evaluation.settings import find_commit, list_versions
from cxrzoo.records import digest
from cxrzoo.sources import write_atomically
from cxrzoo.sources.files import sha256_of


def make(name: str, bench: Bench) -> None:
    """Measure one question, unless that was done with the same weights, tables and settings."""
    question = QUESTIONS[name]
    data = {table: sha256_of(bench.data / table) for table in question.tables}
    models = [bench.describe(model) for model in bench.everything]
    weights = [[model.name, model.weights_sha256, model.preprocessing_sha256] for model in models]
    settings = json.loads(json.dumps(question.settings))  # as it will be read back
    identity = digest([name, data, weights, json.loads(json.dumps(asdict(load_protocol(PROTOCOL)))), SEED, settings])
    path = DOCS / FOUND / f"{name}.json"
    if path.is_file() and read_evidence(path).identity == identity:
        return
    found = question.measure(bench)
    evidence = Evidence(
        name=name,
        title=question.title,
        identity=identity,
        command=f"python docs/make_evidence.py DATA --only {name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=SEED,
        commit=find_commit(),
        versions=list_versions(),
        data=data,
        settings=settings,
        **{"models": tuple(models), **found},
    )
    path.parent.mkdir(exist_ok=True)
    write_evidence(path.parent, evidence)


def draw(*, check: bool) -> int:
    """Draw all evidence anew; or say which curves are not those of the figures beside them."""
    stale = 0
    for evidence in read_all(DOCS):
        for name, picture in draw_evidence(evidence).items():
            path = DOCS / FOUND / name
            if path.is_file() and path.read_text(encoding="utf-8") == picture + "\n":
                continue
            if check:
                sys.stderr.write(f"{name} is stale. Run `python docs/make_evidence.py`.\n")
                stale = 1
            else:
                write_atomically(path, f"{picture}\n".encode())
    return stale


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "data", type=Path, nargs="?", help="folder with kermany.csv and nih.csv; without, only curves are drawn"
    )
    parser.add_argument("--only", action="append", choices=QUESTIONS, help="one question; may be given several times")
    parser.add_argument("--check", action="store_true", help="change nothing, fail if a curve is stale")
    parser.add_argument("--models", type=Path, default=HUB, help="folder of the models' folders (hub/)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--workers", type=int, default=1, help="processes that read the images (1)")
    arguments = parser.parse_args()
    if arguments.data is not None and not arguments.check:
        bench = Bench(arguments.data, arguments.models, arguments.device, arguments.workers)
        for name in arguments.only or QUESTIONS:
            make(name, bench)
    sys.exit(draw(check=arguments.check))
