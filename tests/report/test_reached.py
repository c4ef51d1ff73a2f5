"""Every kind of page by keyboard, aloud and on a phone, as a real browser has it: over its devtools protocol."""

import fcntl
import json
import os
import subprocess
from itertools import count, pairwise

import pytest

from spillover.commands import predict
from spillover.commands.predict import Predict
from spillover.report.audit import build_audit_page
from spillover.report.lab import build_lab_page
from spillover.report.pages import html_of
from spillover.report.remedies import build_remedies_page, comparison_of
from spillover.report.repair import build_repair_page
from spillover.report.where import build_where_page, where_of
from tests.metrics.test_remedies import side
from tests.report import synthetic_remedies, synthetic_where, test_lab, test_repair
from tests.report.test_browser import FLAGS
from tests.report.test_sections import discovery, opened

pytestmark = pytest.mark.slow

MAKE = {
    "runs": lambda get: get("page"),
    "audit": lambda get: build_audit_page([get("small")]).html(),
    "audit of many": lambda get: get("large_page"),
    "audit --open": lambda get: build_audit_page([opened(get("make")(), discovery(), discovery(word="in"))]).html(),
    "predict": lambda get: get("prediction_page"),
    "remedies": lambda get: build_remedies_page(comparison_of(synthetic_remedies.record())).html(),
    "where": lambda get: build_where_page(where_of(synthetic_where.record())).html(),
    "study": lambda get: get("study_page"),
    "lab": lambda get: build_lab_page(test_lab.two_models()).html(),
    "repair": lambda get: build_repair_page(test_repair.write(get("tmp_path") / "r", side(9, links=0.75))).html(),
}
#: What can be focused and is rendered, in the order of the document.
FOCUSABLE = """[...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')]
    .filter((each) => each.checkVisibility({visibilityProperty: true}))"""
#: Of what has the focus: its place among these, its name, whether its ring shows, and whether it opens something.
FOCUSED = f"""(() => {{ const all = {FOCUSABLE}, now = document.activeElement, style = getComputedStyle(now);
    return [all.indexOf(now), now.tagName + ' ' + now.textContent.trim().slice(0, 40),
            style.outlineStyle === 'solid' && parseFloat(style.outlineWidth) >= 2,
            now.tagName === 'SUMMARY' && !now.parentElement.open] }})()"""
#: What has to have a name of its own to be understood when it is read aloud.
NAMED = {
    "link", "button", "searchbox", "textbox", "combobox", "listbox", "DisclosureTriangle", "image", "img", "region",
    "search", "table", "heading", "complementary",
}  # fmt: skip


class Browser:
    """A browser that is driven over a pipe. Leaving it ends it."""

    def __init__(self, profile):
        (theirs, self.ours), (self.answers, writes) = os.pipe(), os.pipe()
        # Away from 3 and 4, where the browser reads and writes.
        far = [fcntl.fcntl(end, fcntl.F_DUPFD, 50) for end in (theirs, writes)]
        flags = [*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        command = ["bash", "-c", f'exec chromium "$@" 3<&{far[0]} 4>&{far[1]}', "chromium", *flags]
        self.process = subprocess.Popen(command, pass_fds=far, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for end in (theirs, writes, *far):
            os.close(end)
        self.numbers, self.session, self.left = count(1), {}, b""
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self("Page.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.answers)

    def heard(self):
        while b"\0" not in self.left:
            more = os.read(self.answers, 1 << 16)
            assert more, "the browser ended"
            self.left += more
        message, _, self.left = self.left.partition(b"\0")
        return json.loads(message)

    def __call__(self, method, **parameters):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters, **self.session}
        os.write(self.ours, json.dumps(message).encode() + b"\0")
        while (answer := self.heard()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, page, width):
        """Open a file, as wide as this."""
        phone = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        self("Emulation.setDeviceMetricsOverride", **phone)
        self("Page.navigate", url=page.as_uri())
        while self.heard().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, script):
        """What a script gives, as JSON has it."""
        answer = self("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key, text=""):
        codes = {"Tab": 9, "Enter": 13}
        event = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "text": text}
        self("Input.dispatchKeyEvent", type="keyDown", **event)
        self("Input.dispatchKeyEvent", type="keyUp", **event)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


@pytest.fixture(scope="module")
def prediction_page(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("predicted") / "out")
    predict.run(Predict(pack="mixed:pairs=2,names=6,bridge=1", out=out))
    return html_of([out])[0]


@pytest.fixture(params=MAKE)
def show(request, browser, tmp_path):
    """Open a page of each kind in this width."""
    page = tmp_path / "page.html"
    page.write_text(MAKE[request.param](request.getfixturevalue), encoding="utf-8")
    return lambda width: browser.open(page, width)


def test_tab_and_enter_reach_and_open_all_in_the_order_of_the_page(browser, show):
    show(1280)
    seen = []
    while True:
        browser.press("Tab")
        place, name, ring, folded = browser.evaluate(FOCUSED)
        if place <= (seen[-1][0] if seen else -1):
            break
        assert ring, f"{name}: its focus does not show"
        seen.append((place, name))
        if folded:
            browser.press("Enter", "\r")
            assert browser.evaluate("document.activeElement.parentElement.open"), f"{name} does not open"
    # Tab leaves the page behind its last stop: nothing was passed over, and nothing stays folded.
    assert [place for place, _ in seen] == list(range(browser.evaluate(f"{FOCUSABLE}.length")))
    assert seen[0][1] == "A Skip to the findings"
    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") == 0


def test_all_has_a_name_and_tables_have_heads_when_read_aloud(browser, show):
    show(1280)
    browser.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    nodes = browser("Accessibility.getFullAXTree")["nodes"]
    by_id = {each["nodeId"]: each for each in nodes}

    def role(node):
        return "" if node["ignored"] else node["role"]["value"]

    def below(node):
        for child in node.get("childIds", []):
            yield role(by_id[child])
            yield from below(by_id[child])

    unnamed = [role(each) for each in nodes if role(each) in NAMED and not each.get("name", {}).get("value")]
    assert unnamed == []
    roles = [role(each) for each in nodes]
    assert roles.count("main") == 1 and roles.count("heading") > 3
    for node in nodes:
        if role(node) in ("table", "grid"):
            assert {"columnheader", "rowheader"} & set(below(node)), node["name"]
        if role(node) == "figure":
            assert {"image", "img"} & set(below(node)), "a figure without a text in its place"
    levels = [
        next(each["value"]["value"] for each in node["properties"] if each["name"] == "level")
        for node in nodes if role(node) == "heading"
    ]  # fmt: skip
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_over_sideways(browser, show, width):
    show(width)
    size = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert browser.evaluate(size) == [width, width]
    browser.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert browser.evaluate(size) == [width, width]


def test_the_list_is_searched_chosen_from_and_sorted_by_keyboard(browser, large_page, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(large_page, encoding="utf-8")
    browser.open(page, 1280)
    while "Association by association" not in browser.evaluate(FOCUSED)[1]:
        browser.press("Tab")
    browser.press("Enter", "\r")
    browser.press("Tab")
    browser("Input.insertText", text="given 7.3 answer")
    status = "document.getElementById('list-status').textContent"
    assert browser.evaluate(status).startswith("56 of 2,000 associations")
    while browser.evaluate("document.activeElement.textContent") != "Association":
        browser.press("Tab")
    browser.press("Enter", "\r")
    assert browser.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"
