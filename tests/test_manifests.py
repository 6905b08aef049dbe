"""Every file of hub/, and what a manifest refuses."""

import dataclasses
import hashlib
import importlib.metadata
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cxrzoo._paths import MANIFESTS
from cxrzoo.errors import RecordError
from cxrzoo.manifest import Contrast, Manifest, Preprocessing, Result, Source, first_sentence, read_manifest
from cxrzoo.recipe import Architecture, list_recipes, load_recipe
from cxrzoo.registry import describe, list_models

FILES = sorted(MANIFESTS.glob("*.toml"))
COPIED = MANIFESTS / "moco-cxr-resnet18.toml"

#: Value minus baseline minus difference, in thousandths. MoCo-CXR's authors print means over bootstrap replicates and
#: take differences before rounding (confidence_interval_diff.py at d433aca): .003, and .001 for the printed roundings.
#: No row needs an exception; ResNet-18, Shenzhen, linear, 6.25 % uses all of it (.902 - .852, printed .054).
TOLERANCE = 3 + 1


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def manifest(request: pytest.FixtureRequest) -> Manifest:
    """Each manifest of hub/ in turn, so that a new file is tested without a new test."""
    return read_manifest(request.param)


@pytest.fixture(scope="session")
def timm_architectures() -> set[str]:
    """Every name that timm can build; imported here because timm takes seconds."""
    import timm

    return set(timm.list_models())


def test_hub_holds_manifests() -> None:
    """The tests over all manifests have manifests to run over."""
    assert COPIED in FILES


def test_recipe_exists(manifest: Manifest) -> None:
    """Every manifest names a recipe of conversion/, or says why none reads its file."""
    assert bool(manifest.recipe) != ("recipe" in manifest.unknown)
    assert not manifest.recipe or manifest.recipe in list_recipes()


def test_method_is_the_recipes(manifest: Manifest) -> None:
    """A recipe that reads the files of one method is used for models of that method."""
    method = load_recipe(manifest.recipe).method if manifest.recipe else ""

    assert method in ("", manifest.method)


def test_architecture_is_known_to_timm(manifest: Manifest, timm_architectures: set[str]) -> None:
    """Every architecture is a name that timm can build, or what is known of it is said."""
    assert bool(manifest.architecture) != ("architecture" in manifest.unknown)
    assert not manifest.architecture or manifest.architecture in timm_architectures


def test_architecture_is_one_of_the_recipes(manifest: Manifest) -> None:
    """The recipe of a model knows its architecture, if perhaps with other patches: their size is told from shapes."""
    if not (manifest.recipe and manifest.architecture):
        return
    known = {_without_patches(candidate.name) for candidate in _candidates(manifest.recipe)}

    assert _without_patches(manifest.architecture) in known


def _candidates(recipe: str) -> list[Architecture]:
    return [candidate for route in load_recipe(recipe).routes for candidate in route.architectures]


def _without_patches(architecture: str) -> str:
    return re.sub(r"patch\d+", "patch", architecture)


def test_texts_are_filled_in(manifest: Manifest) -> None:
    """No text that a reader needs is empty; what nobody stated has a line in `unknown` instead."""
    texts = (manifest.summary, manifest.method, manifest.intended_use, *manifest.training_data)

    assert all(text.strip() for text in (*texts, *manifest.unknown.values()))
    for fact in ("training_data", "paper"):
        assert bool(getattr(manifest, fact)) != (fact in manifest.unknown)


def test_unknown_facts_are_fields(manifest: Manifest) -> None:
    """Each line of `unknown` is about a field of a manifest."""
    assert manifest.unknown.keys() <= {field.name for field in dataclasses.fields(Manifest)}


def test_first_sentence_fits_a_table(manifest: Manifest) -> None:
    """The first sentence of the summary says what the model is, short enough for a table."""
    assert len(first_sentence(manifest.summary)) <= 140


@pytest.mark.parametrize("field", ["paper", "repository"])
def test_addresses_are_https(manifest: Manifest, field: str) -> None:
    """Paper and repository are addresses that a browser opens; a model of this project may name no other repository."""
    own = field == "repository" and manifest.source.command and not manifest.repository

    assert own or field in manifest.unknown or getattr(manifest, field).startswith("https://")


def test_weights_without_a_licence_are_never_rehosted(manifest: Manifest) -> None:
    """Nothing may be published again when no licence is stated for the weights."""
    assert not (manifest.licence.rehost and manifest.licence.weights is None)


def test_preprocessing_is_sane(manifest: Manifest) -> None:
    """Constants are for pixels in [0, 1], and sizes are those of an image."""
    for variant in manifest.preprocessing.values():
        _, height, width = variant.input_size
        assert all(0 <= mean <= 1 for mean in variant.mean)
        assert all(0 < std <= 1 for std in variant.std)
        assert min(height, width) >= 64 and max(height, width) <= 1024


def test_every_variant_names_its_source(manifest: Manifest) -> None:
    """Each set of constants says where it comes from."""
    unsourced = [name for name, variant in manifest.preprocessing.items() if not variant.source.strip()]

    assert not unsourced


def test_label_fractions_ascend(manifest: Manifest) -> None:
    """Label fractions lie in (0, 1], and each is larger than the one before."""
    for result in manifest.results:
        assert sorted(set(result.label_fractions)) == list(result.label_fractions)
        assert all(0 < fraction <= 1 for fraction in result.label_fractions)


def test_intervals_hold_their_value(manifest: Manifest) -> None:
    """Every published value lies inside its interval."""
    outside = [
        (result.finding, result.mode, row)
        for result in manifest.results
        for row in (*result.value, *result.baseline, *result.difference)
        if len(row) == 3 and not row[1] <= row[0] <= row[2]
    ]

    assert not outside


def test_differences_are_those_of_the_values(manifest: Manifest) -> None:
    """A published difference is value minus baseline, up to the paper's rounding."""
    wrong = [
        (result.finding, result.mode, fraction)
        for result in manifest.results
        if result.baseline and result.difference
        for fraction, *rows in zip(
            result.label_fractions, result.value, result.baseline, result.difference, strict=True
        )
        if abs(_thousandths(rows[0]) - _thousandths(rows[1]) - _thousandths(rows[2])) > TOLERANCE
    ]

    assert not wrong


def _thousandths(row: tuple[float, ...]) -> int:
    return round(1000 * row[0])


def test_a_baseline_has_a_name(manifest: Manifest) -> None:
    """Figures of a baseline, or against one, say which baseline it is."""
    for result in manifest.results:
        assert bool(result.baseline or result.difference) == bool(result.baseline_name)


def test_tables_of_one_protocol_agree(manifest: Manifest) -> None:
    """Two tables with the same dataset, finding, mode and metric hold the same figures."""
    seen: dict[tuple[str, ...], Result] = {}
    for result in manifest.results:
        first = seen.setdefault((result.dataset, result.finding, result.mode, result.metric), result)
        assert dataclasses.replace(first, table="") == dataclasses.replace(result, table="")


def test_pinned_files_of_distributions_are_the_installed_ones() -> None:
    """The sha256 and size of a file inside a Python distribution are those of the installed file."""
    sources = [source for path in FILES if (source := read_manifest(path).source).distribution]
    found = [_installed(source) for source in sources]

    assert sources
    assert [(source.sha256, source.size) for source in sources] == found


def _installed(source: Source) -> tuple[str, int]:
    try:
        distribution = importlib.metadata.distribution(str(source.distribution))
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{source.distribution} is not installed")
    content = Path(str(distribution.locate_file(str(source.file)))).read_bytes()
    return hashlib.sha256(content).hexdigest(), len(content)


# hub/README.md

#: What the keys of a table are, where they are not fields.
NAMES_OF_KEYS = {"preprocessing": "variant", "unknown": "fact"}


def _fields(kind: type, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield each field of a dataclass as the README writes it, and whether it may be left out."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner, name = hints[field.name], prefix + field.name
        if isinstance(inner, types.UnionType):
            inner = next(part for part in typing.get_args(inner) if part is not type(None))
        if typing.get_origin(inner) is dict:
            key, inner = NAMES_OF_KEYS[field.name], typing.get_args(inner)[1]
            name = f"{name}.<{key}>"
        elif typing.get_origin(inner) is tuple:
            inner = typing.get_args(inner)[0]
        if dataclasses.is_dataclass(inner):
            yield from _fields(typing.cast(type, inner), f"{name}.")
        else:
            missing = dataclasses.MISSING
            yield name, field.default is not missing or field.default_factory is not missing


def _documented() -> list[tuple[str, bool]]:
    readme = (MANIFESTS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", readme, re.MULTILINE)
    return [(name, meaning.startswith("optional")) for name, meaning in rows]


def test_readme_describes_every_field() -> None:
    """hub/README.md has one row for each field and for nothing else."""
    expected = sorted(name for name, _ in _fields(Manifest))

    assert expected == sorted(name for name, _ in _documented())


def test_readme_says_which_fields_are_optional() -> None:
    """The rows that begin with "optional" are those of the fields with a default."""
    assert dict(_fields(Manifest)) == dict(_documented())


# What a manifest refuses


HUB = '\n[hub]\nrepo_id = "o/n"\nrevision = "{revision}"\nsha256 = "{sha256}"\nsize = 1\n'


WEIGHTS = '\n[weights]\nsha256 = "{sha256}"\nsize = 1\n'
TRAINING = "\n[training]\n{}\n"
DATA = '\n[[training_source]]\nname = "Some"\nimages = 10\nlicence = "CC0-1.0"\nattribution = "The"\n'


def _edited(folder: Path, old: str, new: str) -> Path:
    """Write a copy of a manifest in which the first `old` is `new`; an empty `old` appends."""
    text = COPIED.read_text(encoding="utf-8")
    assert old in text
    path = folder / COPIED.name
    path.write_text(text.replace(old, new, 1) if old else text + new, encoding="utf-8")
    return path


def test_an_edited_copy_is_still_read(tmp_path: Path) -> None:
    """A copy with another summary is read: what the next test sees refused is the edit, not the copy."""
    path = _edited(tmp_path, 'summary = "', 'summary = "Copy. ')

    assert read_manifest(path).summary == f"Copy. {read_manifest(COPIED).summary}"


@pytest.mark.parametrize(
    ("old", "new", "telling"),
    [
        ("summary =", "sumary =", "unknown field 'sumary'. Did you mean 'summary'?"),
        ("[source]", "[source]\nmirror = 1", "source: unknown field 'mirror'. Known fields: url, "),
        ('method = "moco"\n', "", "the field 'method' is missing"),
        ("crop_pct = 1.0", "", "preprocessing.pretrain: the field 'crop_pct' is missing"),
        ("rehost = false", 'rehost = "no"', "licence: rehost: found 'no', expected a bool"),
        ("[3, 320, 320]", "[3, 320.0, 320]", "input_size[1]: found 320.0, expected a int"),
        ("[3, 320, 320]", "[3, 320]", "input_size: found 2 values, expected 3"),
        ("[3, 320, 320]", "[4, 320, 320]", "found 3 and 3 values for 4 channels"),
        ("[3, 320, 320]", "[1, 320, 320]", "found 3 and 3 values for 1 channels"),
        ("std = [0.085585, ", "std = [0.0, ", "expected numbers above 0 to 1"),
        ("crop_pct = 1.0", "crop_pct = 1.1", "crop_pct: found 1.1, expected a share above 0"),
        ('"bilinear"', '"nearest"', "found 'nearest', expected one of 'bilinear', 'bicubic'"),
        ('default_variant = "pretrain"', 'default_variant = "x"', "expected one of pretrain, paper_finetune"),
        ("[source]", '[source]\nsha256 = "ABC"', "sha256: found 'ABC', expected 64 lower-case hexadecimal"),
        ('url = "https:', 'url = "http:', "expected an address that starts with https://"),
        (
            "[source]",
            '[source]\ndistribution = "d"\nfile = "f"',
            "give either url, or page, or distribution and file, or command",
        ),
        (
            "[source]",
            '[source]\npage = "https://example.org"',
            "give either url, or page, or distribution and file, or command",
        ),
        ("[source]", '[source]\ncommand = "train"', "give either url, or page, or distribution and file, or command"),
        ("", TRAINING.format('date = "1 May"'), "training: date: found '1 May', expected year-month-day"),
        ("", TRAINING.format("hours = 0"), "training: hours: found 0, expected a number above 0"),
        ("", TRAINING.format("kwh = 1.5"), "training: assumes: found '', expected a line beside kwh or co2_grams"),
        ("", TRAINING.format('assumes = "700 W"'), "training: assumes: found '700 W', expected a line beside kwh"),
        ("", TRAINING.format("images = 11") + DATA, "training: found 11 images, and 10 in all of training_source"),
        ("", DATA.replace("= 10", "= 0"), "training_source: images: found 0, expected at least 1"),
        ("", DATA.replace("The", " "), "training_source: attribution: found ' ', expected one line of text"),
        ("", DATA + 'url = "http://a.org"', "training_source: url: found 'http://a.org', expected an address"),
        ("", WEIGHTS.format(sha256="0" * 63), "sha256: found '" + "0" * 63),
        (
            "",
            WEIGHTS.format(sha256="1" * 64) + HUB.format(revision="0" * 40, sha256="0" * 64),
            "weights and hub: found two files, 1111111111111111 and 0000000000000000",
        ),
        ('recipe = "moco"\n', "", "found nothing, expected a line on each fact that is left out, here recipe, and"),
        ('architecture = "resnet18"\n', "", "a line on each fact that is left out, here architecture, and on none"),
        ("[licence]", '[unknown]\nrecipe = "?"\n[licence]', "found recipe, expected a line on each fact that is left"),
        ("[licence]", "[unknown]\nrecipe = 1\n[licence]", "unknown.recipe: found 1, expected a str"),
        ("", HUB.format(revision="main", sha256="0" * 64), "revision 'main', expected a commit of 40 hex digits"),
        ("", HUB.format(revision="0" * 40, sha256="0" * 63), "expected 64 lower-case hexadecimal digits"),
        ("[0.001, 0.01, 0.1, 1.0]", "[0.01, 0.1, 1.0]", "value has 4 entries for 3 fractions"),
        ("[[0.776, 0.735, 0.811]", "[[0.776, 0.735]", "every entry of value is [value] or [value, lower, upper]"),
        ('name = "moco-cxr-resnet18"', 'name = "../evil"', "found '../evil', expected lower-case words"),
        ('name = "moco-cxr-resnet18"', 'name = "other"', "the name is 'other', expected the file's own"),
        ("name = ", "name ", "is not valid TOML"),
    ],
)
def test_a_wrong_field_is_refused_with_file_and_field(tmp_path: Path, old: str, new: str, telling: str) -> None:
    """A manifest with one wrong field is refused, and the text names the file and what is wrong."""
    path = _edited(tmp_path, old, new)

    with pytest.raises(RecordError) as caught:
        read_manifest(path)

    assert str(caught.value).startswith(f"hub/{COPIED.name}")
    assert telling in str(caught.value)


# Preprocessing


GREY = Preprocessing((3, 320, 320), (0.502,) * 3, (0.085585,) * 3, "bilinear", 1.0, "center", source="a")

#: A different value of every field that changes the tensor.
CHANGES: dict[str, Any] = {
    "input_size": (3, 321, 321),
    "mean": (0.502, 0.502, 0.503),
    "std": (0.085585, 0.085585, 0.085586),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "squash",
    "intensity": "full_range",
    "contrast": Contrast("min-max", "after crop"),
    "decoding": "fast",
}


def test_digest_ignores_the_source_text() -> None:
    """Two records that differ only in where they come from have one digest."""
    assert GREY.digest == dataclasses.replace(GREY, source="b").digest


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(GREY) if field.name != "source"])
def test_digest_follows_every_other_field(name: str) -> None:
    """A change of any field that changes the tensor changes the digest."""
    assert GREY.digest != dataclasses.replace(GREY, **{name: CHANGES[name]}).digest


@pytest.mark.parametrize("constant", [0.502, 0.085585, 0.1, 0.7])
@pytest.mark.parametrize(("found", "wanted"), [(3, 1), (1, 3)])
def test_equal_channels_keep_their_constants_exactly(constant: float, found: int, wanted: int) -> None:
    """Equal constants stay the same float in another number of channels; averaging would move 0.1."""
    record = dataclasses.replace(GREY, input_size=(found, 320, 320), mean=(constant,) * found, std=(constant,) * found)

    adapted = record.for_channels(wanted)

    assert ((constant,) * wanted, (constant,) * wanted) == (adapted.mean, adapted.std)
    assert (wanted, 320, 320) == adapted.input_size


def test_unequal_channels_are_averaged() -> None:
    """One channel for three unequal ones has the mean of their constants."""
    record = dataclasses.replace(GREY, mean=(0.25, 0.5, 0.75), std=(0.125, 0.25, 0.375))

    expected = dataclasses.replace(record, input_size=(1, 320, 320), mean=(0.5,), std=(0.25,))

    assert expected == record.for_channels(1)
    assert not record.equal_channels


@pytest.mark.parametrize("name", list_models())
def test_features_are_compared_where_a_reference_exists(name: str) -> None:
    """A recipe that ends in a reference library names that library's network for this model's architecture."""
    manifest = describe(name)
    last = [route.last for route in load_recipe(manifest.recipe).routes] if manifest.recipe else []
    named = [known for recipe in last if recipe.reference for known in recipe.architectures]
    fitting = [known for known in named if known.name == manifest.architecture]

    assert all(known.upstream and known.classifier for known in fitting)
