"""The report: its table by a second road, honest words, a page that is whole, safe and always the same."""

import copy
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.text_sbp.export import export_results
from experiments.text_sbp.plots import operations_curve
from experiments.text_sbp.report import MAX_CHARACTERS, render, write_report
from experiments.text_sbp.table import comparison_table, headline, print_table, what_intervals_hold
from paper_figures.text_results import from_report, read_committed
from sbp_bayes.arms import ARMS
from sbp_bayes.base.errors import StoreError
from sbp_bayes.results import ResultRow, read_results

ROOT = Path(__file__).parents[2]
SAMPLE = json.loads((ROOT / "tests" / "figures" / "sample_report.json").read_text(encoding="utf-8"))
VOID = {"meta", "br", "hr", "img", "link"}


@pytest.fixture
def report():
    return copy.deepcopy(SAMPLE)


@pytest.fixture(scope="module")
def html():
    return render(SAMPLE)


class Page(HTMLParser):
    """Tags in order, identifiers, references, and the text of each `pre`."""

    def __init__(self, html):
        super().__init__()
        self.open, self.ids, self.references, self.attributes, self.pre = [], [], [], [], []
        self.tags, self.text = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href", "src"):
                self.references.append(value)
            self.references += re.findall(r"url\(([^)]*)\)", value or "")
        if tag == "pre":
            self.pre.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "pre" in self.open:
            self.pre[-1] += data


def set_delta(report, arm, value, low, high):
    for row in report["arms"]:
        if (row["arm"], row["checkpoint"]) == (arm, "best_validation"):
            row["delta"] = {"value": value, "low": low, "high": high}


def printed(report, width=80):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_table(report, console)
    return console.file.getvalue()


def test_the_table_has_a_line_for_each_arm(report):
    best, last = comparison_table(report)
    assert (best.against, last.against) == ("best", "last")
    assert list(best.rows) == ["tuned_baseline", "sbp", "oracle"]
    assert list(last.rows) == ["baseline", "sbp", "oracle"]
    assert [cell.value for cell in best.rows["tuned_baseline"]][:3] == ["3.441", "–", ""]
    assert [cell.value for cell in best.rows["sbp"]] == ["3.321", "−0.120", "33%", "6.29M", "2.3×"]
    assert [cell.value for cell in last.rows["sbp"]][1:3] == ["−0.155", "39%"]
    assert "repetition, tuned decay" in best.title
    assert "weight decay 0.5, of 2 tried" in " ".join(best.verdicts)


def test_an_arm_of_the_table_needs_nothing_else_to_be_shown(report):
    """Every arm's record in place of SBP's: the table, the page and the figures have its line."""
    for part in ("arms", "dynamics"):
        rows = [row for row in report[part] if row["arm"] == "sbp"]
        missing = [arm for arm in ARMS if arm not in {row["arm"] for row in report[part]}]
        report[part] += [row | {"arm": arm} for row in rows for arm in missing]
    _, last = comparison_table(report)
    assert list(last.rows) == [arm for arm in ARMS if arm in last.rows]
    assert len(last.rows) == len(ARMS) - 1  # the tuned baseline of this record has its best checkpoint alone
    text, shown = printed(report), "".join(Page(render(report)).text)
    for arm in last.rows:
        assert ARMS[arm].label.split(" ")[0] in text
        assert ARMS[arm].question.replace("'", "’") in shown
    assert max(map(len, text.splitlines())) <= 80


def test_what_a_synthesizer_has_learnt_is_said_once_for_arms_that_share_it(report):
    text = " ".join(printed(report).split())
    assert "SBP: net information: −0.021 nats per token of d2 [−0.028, −0.014]; use of d1: −0.001" in text
    assert "synthesis would be self-distillation" in text
    report["gauges"] += [report["gauges"][0] | {"arm": "stitched"}]
    shown = " ".join("".join(Page(render(report)).text).split())
    assert shown.count("net information: −0.021") == 1
    assert "SBP, SBP, stitched: net information" in shown


def test_drift_is_told_beside_quality(report):
    shown = " ".join("".join(Page(render(report)).text).split())
    assert "Drift of the marginal: a classifier tells samples from real documents with AUC 0.83" in shown
    assert "clusters differ by 12.0%, by chance 5.0%" in shown
    assert "Synthetic tokens" in shown
    report["synthesizer"]["quality"]["drift"] = None
    assert "Drift of the marginal: not known" in "".join(Page(render(report)).text)


def test_the_table_of_the_talk_says_what_its_cells_lack(report):
    def cells(name: str) -> list[str]:
        rows = re.findall(r"<tr><th scope=\"row\">([^<]*)</th>(.*?)</tr>", render(report))
        (found,) = [row for heading, row in rows if heading == name and "no judge" in row]
        return re.findall(r"<td>([^<]*)(?:<small>([^<]*)</small>)?</td>", found)

    missing = [("–", "no judge")] * 2
    assert cells("synthetic") == [("0.0%", ""), ("0.3%", ""), *missing, ("0.2%", "")]
    report["synthesizer"]["quality"]["real"]["copying"] = None
    assert cells("real")[2:] == [("–", "no judge"), ("–", "no pairs"), ("–", "no pairs")]


def test_passages_are_marked_and_a_cut_text_has_none_beyond_its_end(report):
    html = render(report)
    assert '<mark class="first">The crossing takes about forty minutes in calm weather</mark>' in html
    assert '<mark class="unique">so that ships can find the shore at night</mark>' in html
    synthesis = report["synthesizer"]["examples"]["syntheses"][0]
    synthesis["text"] = "x" * (MAX_CHARACTERS + 10)
    synthesis["overlaps"] = [{"start": MAX_CHARACTERS - 5, "end": MAX_CHARACTERS + 5, "source": "first"}]
    assert render(report).count('<mark class="first">') == 1  # the legend's


def test_without_a_synthesizer_the_page_tells_of_none(report):
    report["synthesizer"], report["gauges"] = None, []
    for part in ("arms", "dynamics"):
        report[part] = [row for row in report[part] if row["arm"] != "sbp"]
    report["best_control"] = None
    assert "SBP was not compared" in headline(report)
    page = Page(render(report))
    assert page.open == page.pre == []
    assert "Pairs of related documents" not in page.text


@pytest.mark.parametrize(
    ("delta", "words"),
    [
        ((0.02, 0.01, 0.03), "it is worse"),
        ((-0.02, -0.03, -0.01), "it is better"),
        ((0.0, -0.1, 0.1), "it is not distinguishable"),
    ],
)
def test_the_headline_names_the_best_control(report, delta, words):
    value = dict(zip(("value", "low", "high"), delta, strict=True))
    report["best_control"] = {"arm": "self_distillation", "delta": value}
    assert f"Against its best control, self-distillation, {words}" in headline(report)


def test_every_number_has_an_interval_around_it(report):
    for group in comparison_table(report):
        for row in group.rows.values():
            for cell in row:
                if cell.interval:
                    numbers = re.findall(r"[+-]?[\d.]+", (cell.interval + cell.value).replace("−", "-"))
                    low, high, value = map(float, numbers)
                    assert low <= value <= high


@pytest.mark.parametrize(
    ("delta", "words", "never"),
    [
        ((-0.12, -0.13, -0.11), ["0.120 nats per token lower", "0.110 to 0.130", "33%"], ["not disting"]),
        ((0.12, 0.11, 0.13), ["0.120 nats per token higher", "0.110 to 0.130"], ["33%", "gain", "lower"]),
        ((-0.01, -0.03, 0.01), ["not distinguishable", "−0.010", "−0.030 to +0.010"], ["33%", "lower"]),
        ((-0.01, -0.02, 0.0), ["not distinguishable"], ["lower"]),
    ],
)
def test_headline_says_what_the_interval_allows(report, delta, words, never):
    set_delta(report, "sbp", *delta)
    sentence = headline(report)
    assert all(word in sentence for word in words)
    assert not any(word in sentence for word in never)
    assert "best on validation" in sentence


def test_an_undefined_share_says_why(report):
    for row in report["arms"]:
        if row["checkpoint"] == "best_validation":
            row["share"] = None
    set_delta(report, "oracle", -0.01, -0.03, 0.02)
    best, last = comparison_table(report)
    assert best.rows["sbp"][2].value == "undefined"
    assert any("undefined" in verdict and "zero" in verdict for verdict in best.verdicts)
    assert "Oracle is not distinguishable" in " ".join(best.verdicts)
    assert last.rows["sbp"][2].value == "39%"
    assert "oracle's gain" not in headline(report)
    assert "undefined" in render(report)


def test_everything_that_prints_intervals_says_what_they_are_over(report):
    """With three seeds that they are few, with one that the spread between training runs is not in them."""
    for seeds, over, left_out in (
        ([0, 1, 2], "documents and 3 seeds", "few seeds make them wide"),
        ([0], "documents alone, one seed", "the spread between training runs is not in them"),
    ):
        report["seeds"] = seeds
        assert f"95% interval over {over}: " in headline(report)
        assert left_out in what_intervals_hold(report)
        assert left_out in " ".join(printed(report).split())
        rendered = render(report)
        assert f"brackets are 95% intervals over {over}" in rendered
        assert f"with 95% intervals over {over}" in rendered
        assert left_out in rendered
    report["seeds"] = list(range(5))
    assert "few" not in what_intervals_hold(report)
    report["over_seeds_alone"] = True
    assert "95% interval over 5 seeds alone: " in headline(report)


def test_the_terminal_fits_80_columns_without_cutting_a_number(report):
    text = printed(report)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "\x1b" not in text
    for group in comparison_table(report):
        for cell in (cell for row in group.rows.values() for cell in row):
            assert cell.value in text
            assert cell.interval in text
    assert text.rstrip().endswith("(29% to 37%).")


def test_wide_numbers_keep_their_rows_at_80_columns(report):
    set_delta(report, "sbp", 0.136, 0.119, 0.155)
    for row in report["arms"]:
        row["loss"] = {"value": 4.567, "low": 4.482, "high": 4.641}
        if row["arm"] == "sbp":
            row["share"] = {"value": -1.99, "low": -13.98, "high": -1.26}
    text = printed(report)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "nats/token" in text
    assert "[−1,398%" in text


def test_the_page_is_whole_and_refers_to_nothing_outside(html):
    page = Page(html)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    for reference in page.references:
        assert reference.startswith("#")
        assert reference[1:] in page.ids
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert not re.search(r"https?:|@import|//[a-z]", html)


def test_plots_take_the_pages_colours_and_are_described(html):
    plots = [attributes for tag, attributes in Page(html).attributes if tag == "svg"]
    assert len(plots) == 10
    assert all(plot["role"] == "img" and len(plot["aria-label"]) > 40 for plot in plots)
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert not re.search(r"#[0-9a-f]{6}\b|rgb\(", svg)
        assert "font-family" not in svg
    for variable in set(re.findall(r"var\((--[a-z]+)\)", html)):
        assert html.count(f"{variable}:") == 2, f"{variable} is defined for light and for dark"


def test_every_colour_that_is_used_is_one_of_the_pages(html):
    used, defined = set(re.findall(r"var\((--[\w-]+)\)", html)), set(re.findall(r"(--[\w-]+):", html))
    assert "--tuned_baseline" in used
    assert used <= defined


def test_documents_are_shown_as_they_are(html):
    page = Page(html)
    texts = [
        SAMPLE["synthesizer"]["examples"]["document"]["text"],
        *(s["text"] for s in SAMPLE["synthesizer"]["examples"]["syntheses"]),
        *(n["text"] for n in SAMPLE["synthesizer"]["examples"]["neighbours"]),
    ]
    texts += [
        pair[side]["text"] for pair in SAMPLE["synthesizer"]["sampled_pairs"] for side in ("first", "second")
    ]
    assert page.pre == texts
    assert "b" not in [tag for tag, before in zip(page.tags[1:], page.tags, strict=False) if before == "pre"]


def test_hostile_text_stays_text(report):
    hostile = "</pre><script>alert(1)</script>\n& \"' \x00\x1b\x85 \ud800 \u202e \t<!-- --> &amp;"
    clean = Page(render(report)).tags
    report["synthesizer"]["examples"]["document"] |= {"text": hostile, "id": "<img src=x onerror=y>"}
    report["synthesizer"]["examples"]["syntheses"][0]["text"] = hostile
    report["synthesizer"]["sampled_pairs"][0]["first"]["text"] = hostile
    report["config"]["corpus"]["paths"] = ["</td><script>"]
    page = Page(render(report))
    assert page.tags == clean
    assert page.pre[0] == hostile.translate(dict.fromkeys(map(ord, "\x00\x1b\x85\ud800"), "\ufffd"))
    render(report).encode("utf-8")


def test_a_long_document_is_cut_and_says_so(report):
    report["synthesizer"]["examples"]["document"]["text"] = "x" * (MAX_CHARACTERS + 1234)
    shown = Page(render(report)).pre[0]
    assert shown.count("x") == MAX_CHARACTERS
    assert shown.endswith("[1,234 more characters]")


def test_few_examples_and_no_labels_are_fine(report):
    report["synthesizer"]["examples"]["syntheses"] = report["synthesizer"]["examples"]["syntheses"][:1]
    report["synthesizer"]["examples"]["neighbours"] = report["synthesizer"]["sampled_pairs"] = []
    report["synthesizer"]["pairs"] |= {"label_agreement": None, "label_agreement_of_random_pairs": None}
    page = Page(render(report))
    assert len(page.pre) == 2
    assert "No document is near enough to this one" in "".join(page.text)
    assert "same label" not in "".join(page.text)


def test_equal_reports_give_equal_bytes(report, tmp_path, html):
    write_report(report, tmp_path / "deep" / "report.html")
    assert (tmp_path / "deep" / "report.html").read_bytes() == html.encode()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_a_path_that_cannot_be_written_is_named(report, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="file"):
        write_report(report, tmp_path / "file" / "report.html")


def test_operations_end_at_the_arms_total_and_start_after_its_forerunners(report):
    results = from_report(report)
    own = results.arm("baseline", "last")["total_flops"]
    for arm in ("baseline", "sbp", "oracle"):
        curve = operations_curve(results, arm)
        total = results.arm(arm, "last")["total_flops"]
        assert curve.tokens[-1] == pytest.approx(total, rel=1e-9)
        per_validation = own / len(curve.tokens)
        assert np.diff(curve.tokens) == pytest.approx(per_validation, rel=1e-4)


def test_the_ledger_sums_its_lines(html):
    cells = re.findall(r"<th scope=\"row\">sum</th>(.*?)</tr>", html)
    sums = {re.findall(r">(\w+)</span>", row)[0]: re.findall(r"<td>([^<]*)</td>", row) for row in cells}
    assert sums["SBP"] == ["11.7M", "1.73 × 10¹³", "302.2"]
    assert sums["shared"] == ["–", "0", "33.4"]


def test_export_carries_the_numbers_and_no_text(report, tmp_path):
    planted = "words of somebody else"
    report["arms"][0]["note"] = planted
    report["budget"]["note"] = planted
    report["dynamics"][0]["notes"] = [planted]
    row = ResultRow(
        experiment="text_sbp",
        run="7",
        arm="sbp",
        seed=0,
        split="test",
        checkpoint="last",
        tokens_seen=10,
        unique_tokens=5,
        total_flops=1e9,
        loss_nats_per_token=3.3,
        bits_per_byte=1.5,
        interval_low=3.2,
        interval_high=3.4,
        config_fingerprint="0123456789abcdef",
    )
    export_results(report, [row], tmp_path / "sample")
    files = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "sample").iterdir()}
    assert files.keys() == {"results.jsonl", "dynamics.json", "comparison.json"}
    assert planted not in "".join(files.values())
    assert report["synthesizer"]["examples"]["document"]["text"][:20] not in "".join(files.values())
    assert read_results(tmp_path / "sample" / "results.jsonl") == [row]
    committed, direct = read_committed(tmp_path / "sample"), from_report(SAMPLE)
    assert committed.comparison("best") == direct.comparison("best")
    assert committed.comparison("last") == direct.comparison("last")
    for arm in ("baseline", "sbp", "oracle"):
        np.testing.assert_array_equal(
            committed.mean_curve(arm).nats_per_token, direct.mean_curve(arm).nats_per_token
        )
    assert committed.config_name == direct.config_name


def test_matplotlib_waits_until_a_report_is_drawn():
    code = (
        "import sys; import experiments.text_sbp.report, experiments.text_sbp.table; "
        "assert 'matplotlib' not in sys.modules and 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
