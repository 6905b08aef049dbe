"""The report of a comparison: what stands in it, what never may, and that it needs nothing but itself."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.comparison import (
    MACRO,
    Bin,
    Calibration,
    Comparison,
    Contender,
    Difference,
    Interval,
    Miss,
    Mode,
    Part,
    Point,
    Rank,
    Setting,
)
from cxrzoo.evaluation.report import draw_curves, render_report, words

FLOOR = "untrained:resnet18"
STEPS = (("1 %", 40.0, 5), ("100 %", 4000.0, 1))
# The smallest PNG there is: one grey pixel.
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
JPEG = b"\xff\xd8\xff\xe0" + bytes(16)


def make_difference(model: str, value: float, half: float, **changes: Any) -> Difference:
    """Return a difference to `b-net` whose interval is `value` ± `half`."""
    interval = Interval(value, value - half, value + half)
    significant = interval.lower > 0 or interval.upper < 0
    row = Difference(model, "b-net", "linear", "edema", "1 %", interval, significant, False)
    return replace(row, **changes)


def make_comparison(
    models: tuple[str, ...] = ("a-net", "b-net"),
    findings: tuple[str, ...] = ("edema",),
    modes: tuple[Mode, ...] = ("linear",),
    *,
    floor: bool = True,
    steps: tuple[tuple[str, float, int], ...] = STEPS,
) -> Comparison:
    """Return a comparison whose figures all differ, so that each can be found in the page."""
    names = [*models, *([FLOOR] if floor else [])]
    shown = [*findings, *([MACRO] if len(findings) > 1 else [])]
    points = []
    for number, (mode, finding, (fraction, images, draws), name) in enumerate(
        (mode, finding, step, name) for mode in modes for finding in shown for step in steps for name in names
    ):
        value = 0.6 + 0.3 * ((number * 37) % 101) / 101
        points.append(
            Point(
                model=name,
                mode=mode,
                finding=finding,
                fraction=fraction,
                images=images,
                positives=images / 4,
                draws=draws,
                auroc=Interval(value, value - 0.0213, value + 0.0187),
                auprc=Interval(value - 0.2, value - 0.2311, value - 0.1777),
                sensitivity=Interval(value - 0.1, value - 0.15, value - 0.05),
                spread=0.0123 if draws > 1 else None,
            )
        )
    differences = tuple(
        make_difference(name, 0.01 + 0.003 * number, 0.02, finding=finding, fraction=step[0], mode=mode)
        for number, (mode, finding, step, name) in enumerate(
            (mode, finding, step, name)
            for mode in modes
            for finding in shown
            for step in steps
            for name in names
            if name != "b-net"
        )
    )
    part = {finding: 70 for finding in findings}, {finding: 181 for finding in findings}
    setting = Setting(
        command="cxrzoo compare a-net b-net --data table.csv --label edema --seed 7",
        created="2026-11-22T19:40:11+00:00",
        seed=7,
        protocol={"name": "default", "summary": "Nested draws."},
        table_sha256="1" * 64,
        split_sha256="2" * 64,
        split_origin="drawn",
        grouped_by="patient",
        uncertain="ignore",
        against=None,
        parts=tuple(Part(name, 251, 97, *part) for name in ("train", "valid", "test")),
        unreadable={"417": "truncated"},
        replicates=2000,
        clusters="patient",
        specificity=0.9,
        versions={"cxrzoo": "0.1.0", "torch": "2.15.0"},
        commit="abc1234",
    )
    bins = tuple(Bin(share / 10, share / 11, 25) for share in range(1, 10))
    ranking = tuple(
        Rank(
            name, mode, Interval(0.9 - 0.01 * place, 0.85, 0.95), 0.5**place, Interval(0.01, 0, 0.02) if place else None
        )
        for mode in modes
        for place, name in enumerate(names)
    )
    calibration = tuple(
        Calibration(name, mode, finding, "100 %", 1.37, 0.0567, 0.0234, bins, bins)
        for mode in modes
        for finding in findings
        for name in names
    )
    return Comparison(
        title="A title",
        findings=findings,
        fractions=tuple(step[0] for step in steps),
        modes=modes,
        baseline="b-net",
        recommendation="Take a-net: it is 0.02 better (95 % interval -0.01 to 0.05).",
        contenders=tuple(
            Contender(name, "untrained" if name == FLOOR else "model", f"{number}" * 64, "published", "9" * 64, 1280)
            for number, name in enumerate(names)
        ),
        points=tuple(points),
        differences=differences,
        ranking=ranking,
        calibration=calibration,
        misses=(Miss("a-net", "linear", findings[0], 12, 1, 0.004), Miss("a-net", "linear", findings[0], 13, 0, 0.97)),
        notes=("A note.",),
        setting=setting,
    )


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and the cells of each row of its tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave a tag, and what was opened in it and never closed."""
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Note text."""
        if not {"style", "script"} & set(self._open):
            self.text += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    def find_rows(self, model: str) -> list[list[str]]:
        """Return the rows that begin with a model, with their white space as single spaces."""
        rows = [[re.sub(r"\s+", " ", cell).strip() for cell in row] for row in self.rows]
        return [row for row in rows if row and row[0] == model]


def find_svgs(html: str) -> list[str]:
    """Return all pictures that are drawn in a page."""
    return re.findall(r"<svg.*?</svg>", html, re.DOTALL)


FULL = make_comparison(("a-net", "b-net", "c-net", "d-net", "e-net"), ("edema", "pleural_effusion"), ("linear", "knn"))
VARIANTS = {
    "usual": make_comparison(),
    "full": FULL,
    "one model": replace(
        make_comparison(("b-net",), floor=False), differences=(), ranking=(), calibration=(), misses=()
    ),
    "bare": replace(
        make_comparison(floor=False, steps=STEPS[1:]), differences=(), ranking=(), calibration=(), misses=(), notes=()
    ),
    "no macro": replace(FULL, points=tuple(point for point in FULL.points if point.finding != MACRO)),
    "arrays": replace(
        make_comparison(),
        contenders=tuple(replace(one, weights_sha256="", kind="store") for one in make_comparison().contenders),
        setting=replace(make_comparison().setting, command="", commit=None, parts=(), unreadable={}, versions={}),
    ),
}


@pytest.fixture(scope="module", params=VARIANTS)
def rendered(request: pytest.FixtureRequest) -> tuple[Comparison, str]:
    """Return each kind of comparison and its page."""
    comparison = VARIANTS[request.param]
    return comparison, render_report(comparison, {12: PNG, 13: JPEG})


@pytest.mark.parametrize(
    ("value", "expected"), [(0.8834, ".883"), (1.0, "1.000"), (-0.0121, "−.012"), (0.0, ".000"), (-0.0001, ".000")]
)
def test_a_figure_is_shown_without_its_zero(value: float, expected: str) -> None:
    """Figures have three digits, no zero before the point, and a true minus sign unless they round to 0."""
    assert expected == words.show_figure(value)


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (-0.003, 0.0214, "−.003 to +.021"),
        (0.0003, 0.02, "+.0003 to +.0200"),
        (-0.02, -0.0002, "−.0200 to −.0002"),
        (0.0, 0.0, ".000 to .000"),
    ],
)
def test_a_bound_is_not_rounded_onto_zero(lower: float, upper: float, expected: str) -> None:
    """An interval that ends just beside 0 is shown with so many digits that it does."""
    assert expected == words.show_difference(Interval((lower + upper) / 2, lower, upper))


@pytest.mark.parametrize(("share", "expected"), [(0.0, "0 %"), (0.004, "< 1 %"), (0.996, "> 99 %"), (1.0, "100 %")])
def test_only_certainty_is_shown_as_such(share: float, expected: str) -> None:
    """A share is 0 % or 100 % only where it is exactly that."""
    assert expected == re.sub(r"\s", " ", words.show_share(share))


def test_a_long_name_keeps_both_ends() -> None:
    """A name that is too long for a chart loses its middle."""
    assert "bench…ays9k" == words.shorten("benchmark-simmim-xrays9k", 11)
    assert "rad-dino" == words.shorten("rad-dino", 11)


def test_every_point_stands_in_a_table(rendered: tuple[Comparison, str]) -> None:
    """AUROC, AUPRC and sensitivity of each point, with their intervals and the spread, stand in a row of the model."""
    comparison, html = rendered
    page = Page(html)

    for point in comparison.points:
        figures = [point.auroc, point.auprc, point.sensitivity]
        auroc, auprc, sensitivity = (f"{words.show_value(one)} {words.show_interval(one)}" for one in figures if one)
        spread = "–" if point.spread is None else words.show_figure(point.spread)
        assert [point.model, auroc, spread, auprc, sensitivity] in page.find_rows(point.model)


def test_figures_are_those_of_the_record() -> None:
    """Figures that were written out by hand are found in the page of their record."""
    comparison = make_comparison(("a-net", "b-net"), floor=False, steps=STEPS[1:])
    first = replace(
        comparison.points[0],
        auroc=Interval(0.8834, 0.8611, 0.9022),
        auprc=Interval(0.4567, 0.4, 0.5),
        sensitivity=Interval(0.7, 0.65, 0.755),
    )
    row = make_difference("a-net", 0.0314, 0.0102, fraction="100 %")

    page = Page(render_report(replace(comparison, points=(first, comparison.points[1]), differences=(row,)), {}))

    assert [
        ["a-net", "", "+.031", "+.021 to +.042", "significantly better"],
        ["a-net", ".883 .861–.902", "–", ".457 .400–.500", ".700 .650–.755"],
        ["a-net", ".900 .850–.950", "–", "100 %"],
        ["a-net", ".057", ".023", "1.37"],
    ] == page.find_rows("a-net")


@pytest.mark.parametrize(
    ("value", "half", "bonferroni", "expected"),
    [
        (0.03, 0.01, False, "significantly better"),
        (0.03, 0.01, True, "significantly better ✓✓"),
        (-0.03, 0.01, False, "significantly worse"),
        (0.03, 0.04, False, "can’t tell"),
        (0.03, 0.04, True, "can’t tell"),
        (0.03, 0.03, False, "can’t tell"),
        (0.0, 0.0, False, "can’t tell"),
    ],
)
def test_significant_stands_only_where_the_interval_excludes_zero(
    value: float, half: float, bonferroni: bool, expected: str
) -> None:
    """A difference reads as significant where its interval excludes 0, and nowhere else."""
    row = make_difference("a-net", value, half, bonferroni=bonferroni)

    page = Page(render_report(replace(make_comparison(), differences=(row,)), {}))

    found = [cells for cells in page.find_rows("a-net") if words.show_difference(row.difference) in cells]
    assert [expected] == [cells[-1] for cells in found]


@pytest.mark.parametrize(("half", "claimed"), [(0.04, True), (0.01, False)])
def test_a_false_claim_of_significance_is_refused(half: float, claimed: bool) -> None:
    """A record whose claim contradicts its interval makes no report."""
    row = make_difference("a-net", 0.03, half, significant=claimed)

    with pytest.raises(EvaluationError, match=f"a-net, edema, 1 %: found significant = {claimed} with an interval"):
        render_report(replace(make_comparison(), differences=(row,)), {})


def test_comparisons_are_counted() -> None:
    """The page says how many differences there are, how many exclude 0, and how many would by chance."""
    rows = [make_difference("a-net", 0.05, 0.01, bonferroni=number < 3) for number in range(7)]
    rows += [make_difference("a-net", 0.0, 0.01)] * 32 + [make_difference("a-net", 0.0, 0.01, bonferroni=True)]

    text = Page(render_report(replace(make_comparison(), differences=tuple(rows)), {})).text

    assert "looks at 40 differences" in text
    assert "7 have an interval that excludes 0; were there no difference anywhere, about 2 would by chance" in text
    assert "3 hold after Bonferroni’s correction" in text


def test_a_correction_that_cannot_be_tested_is_named() -> None:
    """With too few replicates for so many differences the page says so, instead of counting none."""
    rows = (make_difference("a-net", 0.05, 0.01),) * 51

    text = Page(render_report(replace(make_comparison(), differences=rows), {})).text

    assert "would take 2,040 replicates or more, and there are 2,000" in text
    assert "hold after" not in text


def test_the_floor_is_said_in_words() -> None:
    """What an untrained network reaches at the most labels is a sentence, beside what the best model reaches."""
    comparison = make_comparison()
    values = {"a-net": 0.95, "b-net": 0.93, FLOOR: 0.88}
    points = tuple(
        replace(point, auroc=Interval(values[point.model], 0.8, 0.99)) if point.fraction == "100 %" else point
        for point in comparison.points
    )

    text = re.sub(r"\s+", " ", Page(render_report(replace(comparison, points=points), {})).text)

    assert "An untrained network reaches .880 here (.800–.990, 100 % of the labels). a-net reaches .950" in text


def test_a_floor_above_all_models_is_not_hidden() -> None:
    """Where no model beats the untrained network, the page says so."""
    comparison = make_comparison()
    points = tuple(
        replace(point, auroc=Interval(0.9 if point.model == FLOOR else 0.7, 0.6, 0.95)) for point in comparison.points
    )

    assert "No model reaches more." in render_report(replace(comparison, points=points), {})


def test_the_page_asks_nobody_for_anything(rendered: tuple[Comparison, str]) -> None:
    """No tag, style or policy of the page names an address: pictures are data, links stay in the page."""
    _, html = rendered

    places = [value for _, attrs in Page(html).tags for name, value in attrs.items() if re.search("href|src", name)]
    assert [] == [place for place in places if not str(place).startswith(("#", "data:image/"))]
    assert not re.search(r"url\((?!#)|@import|@font-face", html)
    assert not re.search(r"(?<!xmlns=\")(?<!xmlns:xlink=\")https?://", html)


def test_the_policy_allows_only_its_own_script() -> None:
    """The page forbids all requests, and any script but the one whose digest it states."""
    html = render_report(make_comparison(), {})

    policy = next(attrs["content"] for tag, attrs in Page(html).tags if attrs.get("http-equiv"))
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert 1 == len(scripts)
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digests[0]}'" in str(
        policy
    )


def test_all_text_is_escaped() -> None:
    """Whatever stands in a title, a name, a note or a command is text, in the page and in its charts."""
    evil = "<script>alert('Größe')</script>\"&$x$"
    comparison = make_comparison((evil, "b-net"), (evil,))
    comparison = replace(
        comparison, title=evil, recommendation=evil, notes=(evil,), setting=replace(comparison.setting, command=evil)
    )

    html = render_report(comparison, {})

    assert 1 == html.count("<script")
    assert "alert" not in "".join(re.findall(r"<script>.*?</script>", html, re.DOTALL))
    assert 4 <= Page(html).text.count(evil)


def test_every_picture_is_valid_xml(rendered: tuple[Comparison, str]) -> None:
    """Each chart is well-formed, has words for those who don't see it, and holds text as text and no raster."""
    charts = [svg for svg in find_svgs(rendered[1]) if "role=" in svg]

    assert charts
    for chart in charts:
        root = ElementTree.fromstring(chart)
        tags = {element.tag.partition("}")[2] for element in root.iter()}
        assert root.attrib["aria-label"]
        assert "text" in tags
        assert "image" not in tags


def test_ids_are_unique_and_references_arrive(rendered: tuple[Comparison, str]) -> None:
    """No id stands twice in the page, and whatever refers to one finds it."""
    _, html = rendered

    tags = Page(html).tags
    ids = [attrs["id"] for _, attrs in tags if attrs.get("id")]
    links = [str(value)[1:] for _, attrs in tags for name, value in attrs.items() if name.endswith("href")]
    wanted = {*links, *re.findall(r"url\(#([^)]+)\)", html), *(attrs["for"] for _, attrs in tags if "for" in attrs)}
    assert len(ids) == len(set(ids))
    assert set() == wanted - set(ids)


def test_no_path_of_this_machine_stands_in_the_page(rendered: tuple[Comparison, str]) -> None:
    """The page holds no path: neither of the package, nor of the user, nor of an image."""
    _, html = rendered

    assert not re.search(r"[\w.]+\.(?:py|png|jpe?g|dcm)\b", re.sub(r"data:image[^\"]+", "", html))
    for folder in (Path(__file__).parent.parent, Path.home(), Path.cwd()):
        assert f"{folder}/" not in html


def test_equal_records_make_equal_pages() -> None:
    """The page depends on nothing but the record: no time, no random ids."""
    assert render_report(make_comparison(), {12: PNG}) == render_report(make_comparison(), {12: PNG})


def test_an_untrained_network_is_the_dashed_grey_line() -> None:
    """The floor is drawn grey and dashed, with the grey area below it named."""
    chart = ElementTree.fromstring(draw_curves(make_comparison(), "edema", "linear"))

    line = next(one for one in chart.iter() if one.get("class") == "floor line")
    style = " ".join(one.get("style", "") for one in line.iter())
    assert "stroke-dasharray" in style
    assert "stroke: var(--floor,#6f757e)" in style
    assert "reached from random weights" in {one.text for one in chart.iter()}


def test_every_marker_tells_its_figure() -> None:
    """Pointing at a marker shows model, label fraction, AUROC and interval."""
    comparison = make_comparison()
    chart = draw_curves(comparison, "edema", "linear")

    for point in comparison.points:
        told = f"{point.model}, {point.fraction}: {words.show_value(point.auroc)} ({words.show_interval(point.auroc)})"
        assert (point.model != FLOOR) == (f"<title>{told}</title>" in chart)


def test_a_name_is_never_a_formula() -> None:
    """A name with two dollar signs is written as it is."""
    chart = ElementTree.fromstring(draw_curves(make_comparison(("$x$-net", "b-net")), "edema", "linear"))

    assert "$x$-net" in {one.text for one in chart.iter()}


def test_bands_of_many_models_keep_quiet() -> None:
    """With many models only the bands of the best, the baseline and the floor show until one points at a name."""
    chart = ElementTree.fromstring(draw_curves(FULL, MACRO, "knn"))

    classes = [one.get("class", "") for one in chart.iter()]
    bands = {name for name in classes if " band" in name}
    assert {"m0 band", "m1 band", "m2 band quiet", "m3 band quiet", "m4 band quiet", "floor band"} == bands


def test_a_chart_of_its_own_has_a_page_and_a_style() -> None:
    """A standalone chart brings background, colours for light and dark, and its size."""
    root = ElementTree.fromstring(draw_curves(make_comparison(), "edema", "linear", standalone=True))

    style = next(one.text or "" for one in root.iter() if one.tag.endswith("style"))
    assert ("760", "400") == (root.attrib["width"], root.attrib["height"])
    assert "prefers-color-scheme:dark" in style
    assert "--m0:" in style


def test_a_chart_without_figures_is_refused() -> None:
    """Asking for a finding that has no figures names those that have."""
    with pytest.raises(EvaluationError, match=r"no figures for hernia \(linear\). The comparison has edema \(linear\)"):
        draw_curves(make_comparison(), "hernia", "linear")


def test_the_gallery_shows_each_image_with_its_row() -> None:
    """Misses stand with their picture and row, missed cases apart from false alarms; one without a picture, too."""
    html = render_report(make_comparison(), {12: PNG})

    page = Page(html)
    pictures = {attrs["alt"]: str(attrs["src"]) for tag, attrs in page.tags if tag == "img"}
    assert {"Radiograph in row 12 of the table": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"} == pictures
    missed, alarms = page.text.partition("False alarms:")[::2]
    assert "row 12" in missed
    assert "row 13" in alarms
    assert "no picture" in alarms


def test_another_kind_of_picture_is_refused() -> None:
    """A picture that is neither JPEG nor PNG is named by its row."""
    with pytest.raises(EvaluationError, match="the picture of row 12 begins with b'GIF8', expected a JPEG or PNG"):
        render_report(make_comparison(), {12: b"GIF89a"})


def test_a_comparison_without_figures_is_refused() -> None:
    """Without a single point there is no report."""
    with pytest.raises(EvaluationError, match="the comparison has no figures"):
        render_report(replace(make_comparison(), points=()), {})


def test_figures_of_an_unknown_model_are_refused() -> None:
    """A point of a model that is no contender is named."""
    comparison = make_comparison()
    stray = replace(comparison.points[0], model="x-net")

    with pytest.raises(EvaluationError, match="found figures of x-net, expected only contenders: a-net, b-net"):
        render_report(replace(comparison, points=(*comparison.points, stray)), {})


def test_what_it_takes_to_repeat_stands_in_the_page() -> None:
    """Command, seed, digests, versions, commit, parts of the split and unreadable rows are all there."""
    comparison = make_comparison()
    text = Page(render_report(comparison, {})).text

    setting = comparison.setting
    digests = [one.weights_sha256 for one in comparison.contenders]
    for expected in (setting.command, setting.created, setting.table_sha256, setting.split_sha256, "abc1234", *digests):
        assert expected in text
    assert "cxrzoo 0.1.0, torch 2.15.0" in text
    assert "row 417: truncated" in text
    assert ["edema", "70 / 181", "70 / 181", "70 / 181"] in Page(render_report(comparison, {})).find_rows("edema")


def test_the_guessing_level_of_auprc_is_said() -> None:
    """Beside the figures stands what guessing gives as AUPRC: 70 positives among 251 test images."""
    assert "Guessing gives an AUPRC of .279" in render_report(make_comparison(), {})


def test_a_page_without_title_names_the_findings() -> None:
    """A comparison of arrays has no title; its page is called after the findings."""
    comparison = replace(make_comparison(findings=("edema", "pleural_effusion")), title="")

    assert "<title>Edema, pleural effusion</title>" in render_report(comparison, {})


def test_a_large_report_stays_small() -> None:
    """Ten models, fourteen findings and two modes take less than 6 MB, and each model has its rows."""
    models = tuple(f"{letter}-net" for letter in "abcdefghij")
    findings = tuple(f"finding_{number}" for number in range(14))
    comparison = make_comparison(models, findings, ("linear", "knn"))

    html = render_report(comparison, {})

    assert len(html) < 6_000_000
    assert set(models) <= {row[0] for row in Page(html).rows if row}


def test_the_style_knows_phone_paper_and_dark() -> None:
    """The page has rules for narrow windows, for print and for dark themes, and scales on a phone."""
    html = render_report(make_comparison(), {})

    for rule in ("@media (max-width:", "@media print", "prefers-color-scheme:dark"):
        assert rule in html
    assert 'name="viewport" content="width=device-width' in html
