"""The pages in a real browser: nothing is fetched, nothing complains, nothing overflows on a phone."""

import html
import json
import subprocess

import pytest

from spillover.report.audit import build_audit_page
from spillover.report.lab import build_lab_page
from spillover.report.pages import build_runs_page
from spillover.report.remedies import build_remedies_page, comparison_of
from spillover.report.study import build_study_page
from spillover.report.where import build_where_page, where_of
from tests.report import synthetic_where, test_lab
from tests.report.synthetic_remedies import record

pytestmark = pytest.mark.slow
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    # The browser's own errands must not leave the machine either.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
LONG = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch"


@pytest.fixture
def browse(tmp_path):
    """Open HTML text; gives the document as the browser sees it and what it wrote to its log."""

    def open_page(text, *flags):
        page = tmp_path / "page.html"
        page.write_text(text, encoding="utf-8")
        command = ["chromium", *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", *flags]
        done = subprocess.run(
            [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout, done.stderr

    return open_page


@pytest.fixture
def wide_page(make):
    runs = [
        make(),
        make(name="invented", kind="spurious", right=6, seeds=(0, 1)),
        make(name=LONG, prefix=LONG, map={LONG: LONG + "ish", "Paris": "French"}, names=3, right=2),
    ]
    return build_runs_page(runs).html()


@pytest.fixture
def pages(wide_page, study_page):
    return {"runs": wide_page, "study": study_page, "remedies": build_remedies_page(comparison_of(record())).html()}


EACH = pytest.mark.parametrize("which", ["runs", "study", "remedies"])


def requests_of_the_page(log):
    """Addresses in a net log that the page asked for; the browser's own errands have no origin."""
    asked = [event.get("params") or {} for event in json.loads(log.read_text())["events"]]
    return {each["url"] for each in asked if each.get("initiator", "not an origin") != "not an origin"}


@EACH
def test_it_opens_without_an_error_or_a_request(browse, pages, which, tmp_path):
    log = tmp_path / "net.json"
    document, messages = browse(pages[which], f"--log-net-log={log}")
    said = {"runs": "something true", "study": "newly concludes a true link", "remedies": "Train with later-layers=0.5"}
    assert said[which] in document
    assert document.count("<figure>") == pages[which].count("<figure>")
    assert "CONSOLE" not in messages
    assert requests_of_the_page(log) == set()


def test_the_checks_for_errors_and_requests_can_fail(browse, tmp_path):
    log = tmp_path / "net.json"
    text = '<!doctype html><img src="http://page.invalid/x.png"><script>throw new Error("no")</script>'
    _, messages = browse(text, f"--log-net-log={log}")
    assert "CONSOLE" in messages
    assert requests_of_the_page(log) == {"http://page.invalid/x.png"}


@EACH
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_overflows(browse, pages, which, width):
    opened = pages[which].replace("<details", "<details open")
    frame = f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(opened)}"></iframe>'
    script = (
        "<script>onload = () => { const d = document.querySelector('iframe').contentDocument;"
        "document.title = d.documentElement.scrollWidth + ' in ' + d.documentElement.clientWidth; }</script>"
    )
    document, _ = browse(f"<!doctype html><title>none</title>{frame}{script}")
    title = document.partition("<title>")[2].partition("</title>")[0]
    assert title == f"{width} in {width}"


def test_the_check_for_overflow_can_fail(browse):
    frame = '<iframe style="width:360px;border:0" srcdoc="&lt;div style=width:500px&gt;x"></iframe>'
    script = (
        "<script>onload = () => { const d = document.querySelector('iframe').contentDocument;"
        "document.title = d.documentElement.scrollWidth > d.documentElement.clientWidth; }</script>"
    )
    assert "<title>true</title>" in browse(f"<!doctype html><title>none</title>{frame}{script}")[0]


BRIEF = {
    "run": lambda get: build_runs_page([get("make")(name="invented", kind="spurious", right=6)]),
    "true and invented": lambda get: build_runs_page([get("make")(), get("make")(name="b", kind="spurious", right=6)]),
    "audit": lambda get: build_audit_page([get("small")]),
    "study": lambda get: build_study_page(get("study")),
    "remedies": lambda get: build_remedies_page(comparison_of(record())),
    "where": lambda get: build_where_page(where_of(synthetic_where.record())),
    "lab": lambda get: build_lab_page(test_lab.two_models()),
}


@pytest.mark.parametrize("which", BRIEF)
def test_a_brief_page_is_one_screen_of_a_laptop(browse, request, which):
    frame = html.escape(BRIEF[which](request.getfixturevalue).html(brief=True))
    script = (
        "<script>onload = () => { const d = document.querySelector('iframe').contentDocument;"
        "document.title = Math.round(d.querySelector('main').getBoundingClientRect().bottom); }</script>"
    )
    text = f'<iframe style="width:1280px;height:800px;border:0" srcdoc="{frame}"></iframe>'
    document, _ = browse(f"<!doctype html><title>none</title>{text}{script}")
    assert 200 < int(document.partition("<title>")[2].partition("</title>")[0]) <= 800
    assert ("What to do next" if which == "remedies" else "What this does not say") in document
