"""Recipes: every one of them parses, its examples hold, and mistakes in one are named."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrzoo._paths import RECIPES
from cxrzoo.errors import RecordError
from cxrzoo.recipe import Recipe, list_recipes, load_recipe, read_recipe

EXAMPLES = [
    pytest.param(load_recipe(name), key, meaning, id=f"{name}: {key}")
    for name in list_recipes()
    for key, meaning in load_recipe(name).examples.items()
]


@pytest.mark.parametrize(("recipe", "key", "meaning"), EXAMPLES)
def test_example(recipe: Recipe, key: str, meaning: str) -> None:
    """A worked example in a recipe is what the recipe does."""
    placement = recipe.place(key)

    found = "no rule" if placement is None else placement.target or f"dropped: {placement.reason}"

    assert meaning == found


@pytest.mark.parametrize("name", list_recipes())
def test_every_rule_has_an_example(name: str) -> None:
    """No rule of a recipe goes without an example that it decides."""
    recipe = load_recipe(name)
    deciding = {
        next((i for i, rule in enumerate(recipe.rule) if rule.apply(key) is not None), None) for key in recipe.examples
    }

    assert set(range(len(recipe.rule))) <= deciding


@pytest.mark.parametrize("name", list_recipes())
def test_counts_are_those_of_timm(name: str) -> None:
    """The number of tensors that a recipe promises for an architecture is the number timm's network has."""
    from cxrzoo.architectures import sketch_network

    for architecture in load_recipe(name).architectures:
        network = sketch_network(architecture.name, **architecture.args)
        assert architecture.kept == len(network.state_dict())


@pytest.mark.parametrize("name", list_recipes())
def test_chain_ends_in_architectures(name: str) -> None:
    """Following `then` from any recipe ends at one that names architectures, unless it refuses."""
    recipe = load_recipe(name)

    assert recipe.refuses or all(route.architectures for route in recipe.routes)


def test_readme_names_every_field() -> None:
    """The README of conversion/ has a row for each field of a recipe, and none for a field that is gone."""
    import dataclasses

    from cxrzoo.recipe import Architecture, Compute, Rule, Sign

    fields_table = (RECIPES / "README.md").read_text().partition("| operation |")[0]
    rows = set(re.findall(r"^\| `([a-z_.]+)` \|", fields_table, re.MULTILINE))
    nested = {"rule": Rule, "architectures": Architecture, "compute": Compute, "requires": Sign}
    fields = set()
    for field in dataclasses.fields(Recipe):
        inner = nested.get(field.name)
        fields |= {f"{field.name}.{f.name}" for f in dataclasses.fields(inner)} if inner else {field.name}

    assert fields == rows - nested.keys()


def test_readme_names_every_operation() -> None:
    """The README of conversion/ has a row for each operation that a recipe can name, and no other."""
    from cxrzoo.operations import OPERATIONS

    table = (RECIPES / "README.md").read_text().partition("| operation |")[2].partition("\n\n")[0]

    assert set(OPERATIONS) == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_first_rule_decides() -> None:
    """Of two rules that match a key, the earlier one decides."""
    recipe = load_recipe("moco")

    placement = recipe.place("module.encoder_q.fc.0.weight")

    assert placement is not None
    assert placement.reason == "projection head"


def test_rules_match_whole_keys() -> None:
    """A key that only contains what a rule matches is not matched by it."""
    assert load_recipe("moco").place("extra.module.queue") is None


TEMPLATE = 'summary = "x"\n[[rule]]\nmatch = "(?P<a>.+)"\nrename = "%s"'
COMPUTE = (
    'summary = "x"\n[[compute]]\noutput = "%s"\napply = "chunk"\ninputs = ["%s"]\n[[rule]]\nmatch = "a"\ndrop = "b"'
)
ARGUMENTS = (
    'name = "broken"\nsummary = "x"\n[[architectures]]\nname = "n"\nargs = { %s }\n[[rule]]\nmatch = "a"\ndrop = "b"'
)
BROKEN = {
    "unknown field": ('summary = "x"\nsumary = "x"', "Did you mean 'summary'?"),
    "no summary": ("", "the field 'summary' is missing"),
    "rename and drop": (
        'summary = "x"\n[[rule]]\nmatch = "a"\nrename = "b"\ndrop = "c"',
        "give either rename or drop",
    ),
    "bad pattern": ('summary = "x"\n[[rule]]\nmatch = "("\ndrop = "c"', "is not a regular expression"),
    "unknown group": ('summary = "x"\n[[rule]]\nmatch = "(?P<a>.)"\nrename = "{b}"', "no group is named b"),
    "repeats without number": (
        'summary = "x"\n[[rule]]\nmatch = "a{99999999999999999999}"\ndrop = "c"',
        "is not a regular expression",
    ),
    "long pattern": (f'summary = "x"\n[[rule]]\nmatch = "{"a" * 501}"\ndrop = "c"', "501 characters; expected at most"),
    "long name": (
        f'summary = "x"\n[[rule]]\nmatch = "(?P<a>.)"\nrename = "{"{a}" * 200}"',
        "rule '(?P<a>.)': found '{a}{a}",
    ),
    "long shape": (
        f'summary = "x"\n[[requires]]\nmatch = "a"\nshape = "{"1" * 501}"\n[[rule]]\nmatch = "a"\ndrop = "c"',
        "501 characters; expected at most",
    ),
    "open brace": (TEMPLATE % "{", "rule '(?P<a>.+)': '{' is no template"),
    "conversion": (TEMPLATE % "{a!z}", "rule '(?P<a>.+)': found '{a!z}', expected nothing but the name of a group"),
    "format": (TEMPLATE % "{a:>19999999}", "rule '(?P<a>.+)': found '{a:>19999999}', expected nothing but the name"),
    "format in a format": (TEMPLATE % "{a:{a}}", "rule '(?P<a>.+)': found '{a:{a}}', expected nothing but the name"),
    "attribute": (TEMPLATE % "{a.__class__}", "rule '(?P<a>.+)': found '{a.__class__}', expected nothing but the name"),
    "item": (TEMPLATE % "{a[0]}", "rule '(?P<a>.+)': found '{a[0]}', expected nothing but the name"),
    "place": (TEMPLATE % "{0}", "rule '(?P<a>.+)': found '{0}', expected nothing but the name"),
    "format in an output": (COMPUTE % ("{a:>9}", "{a}"), "compute '{a:>9}': found '{a:>9}', expected nothing but"),
    "attribute in an input": (COMPUTE % ("{a}", "{a}.{a.b}"), "compute '{a}': found '{a}.{a.b}', expected nothing but"),
    "one group twice": (COMPUTE % ("x", "{a}.{a}"), "compute 'x' '(?P<a>[^.]+)"),
    "a file for timm": (ARGUMENTS % "checkpoint_path = 'evil.pth'", "found the argument 'checkpoint_path'"),
    "a network without end": (ARGUMENTS % "depth = 3000", "found depth = 3000, expected"),
    "not TOML": ("summary = ", "is not valid TOML"),
    "wrong name": ('name = "other"\nsummary = "x"', "the name is 'other', expected the file's own, 'broken'"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_recipe(text: str, message: str, tmp_path: Path) -> None:
    """A mistake in a recipe is an error that names the file and the mistake."""
    head = "" if "name = " in text.replace("rename = ", "") else 'name = "broken"\n'
    first, found, rest = text.partition("[[rule]]")
    path = tmp_path / "broken.toml"
    path.write_text(
        f"{head}{first}\n{found}{rest}\n[examples]\n" if found else f"{head}{first}\nrule = []\n[examples]\n"
    )

    with pytest.raises(RecordError, match=re.escape(message)) as caught:
        read_recipe(path)

    assert str(caught.value).startswith("conversion/broken.toml")


def write_chain(folder: Path, *then: list[str]) -> Path:
    """Write recipes r0, r1, … that go on in those named, and return the first."""
    for number, names in enumerate(then):
        shown = ", ".join(f'"{folder / name}.toml"' for name in names)
        (folder / f"r{number}.toml").write_text(f'name = "r{number}"\nsummary = "x"\nthen = [{shown}]\n')
    return folder / "r0.toml"


ENDLESS = {
    "itself": ([["r0"]], "r0 > r0 > r0"),
    "itself many times": ([["r0"] * 50], "r0 > r0 > r0"),
    "each other": ([["r1"], ["r0"]], "r0 > r1 > r0"),
    "nine": ([[f"r{n + 1}"] for n in range(8)] + [[]], "r0 > r1 > r2 > r3 > r4 > r5 > r6 > r7"),
    "many ways": ([[f"r{n + 1}"] * 50 for n in range(7)] + [[]], "in more than 100 ways"),
}


@pytest.mark.parametrize(
    "use", [lambda r: r.routes, lambda r: r.digest, lambda r: r.place("a")], ids=["routes", "digest", "place"]
)
@pytest.mark.parametrize(("then", "message"), ENDLESS.values(), ids=ENDLESS.keys())
def test_chain_without_end(
    then: list[list[str]], message: str, use: Callable[[Recipe], object], tmp_path: Path
) -> None:
    """Recipes that go on in themselves, or further than is sensible, are refused with the chain's names."""
    recipe = load_recipe(str(write_chain(tmp_path, *then)))

    with pytest.raises(RecordError, match=message):
        use(recipe)


def test_longest_chain(tmp_path: Path) -> None:
    """Eight recipes one after the other are allowed, and their digest covers the last."""
    first = load_recipe(str(write_chain(tmp_path, *[[f"r{n + 1}"] for n in range(7)], [])))

    assert [8] == [len(route.recipes) for route in first.routes]
    assert load_recipe(str(tmp_path / "r1.toml")).digest != first.digest


def test_unknown_recipe() -> None:
    """A recipe that does not exist is an error that lists those that do."""
    with pytest.raises(RecordError, match="no recipe is named 'mocco'. Did you mean 'moco'.* Known recipes: .*moco"):
        load_recipe("mocco")


def test_digest_covers_what_decides() -> None:
    """Another place to look for the state_dict, another rule or another recipe at the end change the digest."""
    import dataclasses

    recipe = load_recipe("moco")
    changes = [{"unwrap": ("ema",)}, {"rule": recipe.rule[1:]}, {"then": ("mobilenetv2",)}]

    digests = {recipe.digest, *(dataclasses.replace(recipe, **change).digest for change in changes)}

    assert 4 == len(digests)
    assert recipe.digest == dataclasses.replace(recipe, summary="another text").digest
