"""The whole campaign of hostile files: checkpoints here, images next door; run as a script by `make fuzz`."""

import argparse
import dataclasses
import hashlib
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hostile import image_campaign, structures
from hostile.generator import IMAGES, generate, list_ids
from hostile.seeds import CHECKPOINTS, NAMES, make_seed
from hostile.tables import Row, count, is_right, print_table
from hostile.verdicts import HANG, Case, judge
from hostile.workers import Finding, Key, Pool

_MUTANTS = 10_000
_RANDOM_LIES = 2_000
_PREFIXED = ("zip", "moco_legacy", "safetensors")
_FLIPPED = ("zip", "plain", "moco", "moco_legacy", "safetensors")
_IN_ZIPS = ("zip", "plain", "moco")
_WRITTEN, _REPETITIONS = 20, 5
#: Sections whose files also stand in for promised weights.
LOADING = ("headers", "safetensors mutants", "safetensors flips")


def list_keys(section: str, share: float = 1) -> list[Key]:
    """Return the family, id and seed of the cases in a section, or of a share of them, drawn once and for all."""
    keys = list(_sections()[section]())
    return keys if share == 1 else sorted(random.Random(section).sample(keys, max(1, round(len(keys) * share))))


def _sections() -> dict[str, Callable[[], Iterable[Key]]]:
    def all_of(family: str) -> Callable[[], Iterator[Key]]:
        return lambda: ((family, case, seed) for seed, case in enumerate(list_ids(family)))

    def many(kind: str, names: Iterable[str]) -> Callable[[], Iterator[Key]]:
        return lambda: (
            ("mutants", f"{kind}/{name}", seed)
            for seed, name in zip(range(_MUTANTS), itertools.cycle(names), strict=False)
        )

    lies = (("lies", f"random/{container}/", seed) for container in ("zip", "legacy") for seed in range(_RANDOM_LIES))
    return {
        "calls": all_of("calls"),
        "bombs": lambda: (("structures", case, 0) for case in structures.list_bombs()),
        "structures": lambda: (("structures", case, 0) for case in structures.list_structures()),
        "budgets": lambda: (("structures", case, 0) for case in structures.list_structures(within=True)),
        "lies": lambda: itertools.chain(all_of("lies")(), lies),
        "surgery": all_of("surgery"),
        "headers": all_of("headers"),
        "honest": lambda: (("mutants", f"honest/{name}", 0) for name in NAMES),
        "mutants": many("mutant", CHECKPOINTS),
        "prefixes": lambda: (
            ("mutants", f"prefix/{name}", cut) for name in _PREFIXED for cut in range(len(make_seed(name).data))
        ),
        "flips": many("flip", _FLIPPED),
        "safetensors mutants": many("mutant", ("safetensors",)),
        "safetensors flips": many("flip", ("safetensors",)),
    }


def is_noticed(finding: Finding) -> bool:
    """Return whether a changed file was refused, or has another digest than the honest one, which is pinned."""
    honest = hashlib.sha256(make_seed(finding.key[1].split("/")[1]).data).hexdigest()
    return finding.result.refused or finding.result.sha256 not in ("", honest)


def is_refused_at_loading(finding: Finding) -> bool:
    """Return whether a file in the place of promised weights was refused."""
    return not finding.wrong and finding.result.loading.split(":")[0].endswith("Error")


def count_outputs(findings: list[Finding], pool: Pool) -> Row:
    """Return the line on what accepted mutants are written out as, again and again."""
    accepted = [finding.key for finding in findings if finding.result.outcome == "read"]
    chosen = accepted[:: max(1, len(accepted) // _WRITTEN)][:_WRITTEN]
    digests = [{pool.write_out(generate(*key), fill) for fill in range(_REPETITIONS)} for key in chosen]
    same = sum(len(found) == 1 and "" not in found for found in digests)
    title = f"accepted files, written out {_REPETITIONS} times: one digest"
    return Row(title, "all", f"{same} of {len(chosen)}", same == len(chosen) > 0)


def measure(share: float, keep: Path) -> list[Row]:
    """Run every section, and return the lines of the table."""
    start = time.monotonic()
    found: dict[str, list[Finding]] = {}
    with Pool() as pool, Pool(loading=True) as loading_pool:
        for section in _sections():
            keys = list_keys(section, share)
            print(f"{time.monotonic() - start:5.0f} s  {section}: {len(keys):,} files", file=sys.stderr)
            found[section] = list((loading_pool if section in LOADING else pool).run(keys, keep))
        outputs = count_outputs(found["mutants"], pool)
    taken = time.monotonic() - start
    return [*tabulate(found), outputs, Row("the whole campaign", "≤ 600 s", f"{taken:.0f} s", taken <= 600)]


def tabulate(found: dict[str, list[Finding]]) -> Iterator[Row]:
    """Yield the lines of the table for what was found, section by section."""
    everything = list(itertools.chain.from_iterable(found.values()))
    drawn = ("mutants", "flips", "safetensors mutants", "safetensors flips")
    crafted = itertools.chain.from_iterable(found[section] for section in found if section not in drawn)
    controls = [finding for finding in crafted if finding.expected.outcome == "read"]
    calls = [finding for finding in found["calls"] if finding.expected.outcome == "refused"]
    yield count("hostile pickles refused, naming the global where it is reached", calls, is_right)
    strays = sum(len(finding.result.strays) for finding in everything)
    files = f"{strays} in {len(everything):,} files"
    yield Row("imports, calls, processes, sockets, files written", "0", files, strays == 0)
    yield count("honest controls read, to the byte", controls, is_right)
    bombs = [*found.get("bombs", ()), *found["structures"], *found["budgets"]]
    slowest = max(bombs, key=lambda bomb: bomb.result.seconds)
    largest = max(bombs, key=lambda bomb: bomb.result.grown)
    yield count("structure bombs: verdict as expected", bombs, is_right)
    seconds, grown = slowest.result.seconds, largest.result.grown
    yield Row("structure bombs: CPU time", "≤ 2 s", f"{seconds:.2f} s ({slowest.key[1]})", seconds <= 2)
    yield Row("structure bombs: memory over the start", "≤ 200 MB", f"{grown:.0f} MB ({largest.key[1]})", grown <= 200)
    yield count("tensors that lie: verdict as arithmetic says", found["lies"], is_right)
    yield count("zip archives with edited records", found["surgery"], is_right)
    yield count("safetensors with edited headers, both readers", found["headers"], is_right)
    classes = sorted({finding.result.outcome for finding in found["mutants"] if finding.result.outcome != "read"})
    typed = count("mutated checkpoints: read, or CheckpointError", found["mutants"], is_right)
    yield dataclasses.replace(typed, measured=f"{typed.measured} ({', '.join(classes)})")
    yield count("mutated checkpoints noticed by a pinned sha256", found["mutants"], is_noticed)
    yield count("mutated safetensors: read, or CheckpointError", found["safetensors mutants"], is_right)
    yield count("mutated safetensors refused as promised weights", found["safetensors mutants"], is_refused_at_loading)
    yield count("every prefix of three files refused", found["prefixes"], is_right)
    yield count("flipped bits of data noticed by a pinned sha256", found["flips"], is_noticed)
    zipped = [finding for finding in found["flips"] if finding.key[1].split("/")[1] in _IN_ZIPS]
    yield count("flipped bits of zip data noticed by CRC-32", zipped, lambda each: "CRC-32" in each.result.text, 0.999)
    yield count("flipped bits refused as promised weights", found["safetensors flips"], is_refused_at_loading)
    accepted = [finding for finding in everything if finding.result.outcome == "read"]
    yield count("accepted files: every byte is one of the file", accepted, lambda finding: not finding.result.faults)
    dead = sum(each.result.outcome in ("crashed", "hung") or each.result.seconds > HANG for each in everything)
    yield Row("crashes, and hangs of more than 5 s", "0", str(dead), dead == 0)


def replay(case: Case) -> int:
    """Run one case, print what is expected and what is found, and return 1 if that differs."""
    images = case.family in IMAGES
    loading = not images and ("safetensors" in case.id or case.family == "headers")
    with Pool(1, loading=loading, images=images) as pool:
        (finding,) = pool.run([(case.family, case.id, case.seed)])
    print(f"{case.title}: {len(case.data)} bytes, sha256 {hashlib.sha256(case.data).hexdigest()}")
    print(f"expected: {case.expected}\nfound: {finding.result}")
    print("\n".join(judge(case.expected, finding.result)) or "as expected")
    return int(bool(finding.wrong))


def main() -> int:
    """Run the campaign, or one case; return 1 if a figure misses its goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replay", nargs=3, metavar=("FAMILY", "ID", "SEED"), help="run a single case")
    parser.add_argument("--share", type=float, default=1, help="how much of each section to run, from 0 to 1")
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="where cases that go wrong are kept")
    parser.add_argument("--of", nargs="+", choices=("checkpoints", "images"), help="run a part of it")
    options = parser.parse_args()
    if options.replay:
        family, case, seed = options.replay
        return replay(generate(family, case, int(seed)))
    measures = {"checkpoints": measure, "images": image_campaign.measure}
    rows = {title: measures[title](options.share, options.keep) for title in options.of or measures}
    for title, lines in rows.items():
        print(f"\n{title}\n")
        print_table(lines)
    return int(not all(row.met for lines in rows.values() for row in lines))


if __name__ == "__main__":
    sys.exit(main())
