"""The site of docs/: it builds without a warning, fetches nothing, and its search works from a file."""

import logging
import re
import subprocess

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from spillover.commands import verbs
from tests.docs.test_pages import DOCS
from tests.report.test_browser import FLAGS, requests_of_the_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, and what building it warned of."""
    warned: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())
    logging.getLogger("mkdocs").addHandler(handler)
    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(DOCS.parent / "mkdocs.yml"), site_dir=str(folder), strict=True)
    config.plugins.run_event("startup", command="build", dirty=False)
    build(config)
    logging.getLogger("mkdocs").removeHandler(handler)
    return folder, warned


def test_it_builds_without_a_warning_and_has_every_verb(site):
    folder, warned = site
    assert warned == []
    assert {path.stem for path in (folder / "verbs").glob("*.html")} == {"index", *verbs()}


def test_lists_and_tables_are_lists_and_tables(site):
    """Markdown on the code host begins a list right under a line; the site's wants an empty one between."""
    for path in site[0].rglob("*.html"):
        text = re.sub(r"<pre.*?</pre>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        paragraphs = re.findall(r"<p>(.*?)</p>", text, re.DOTALL)
        assert not [each[:200] for each in paragraphs if re.search(r"\n\s*([-*] |\d+\. |\|)", each)], path.name


@pytest.mark.parametrize("page", ["index.html", "results.html", "verbs/inject.html"])
def test_nothing_is_fetched_from_elsewhere(page, site, tmp_path):
    log = tmp_path / "net.json"
    open_page((site[0] / page).as_uri(), tmp_path, f"--log-net-log={log}")
    assert {url for url in requests_of_the_page(log) if not url.startswith("file:")} == set()


def test_its_search_works_without_a_server(site, tmp_path):
    seen = open_page((site[0] / "index.html").as_uri() + "?q=abstention", tmp_path, "--virtual-time-budget=8000")
    found = re.findall(r'<a href="([^"]+)" class="md-search-result__link"', seen)
    assert any("mitigate.html" in link for link in found)


def open_page(address, profile, *flags):
    """The document as the browser sees it."""
    command = ["chromium", *FLAGS, f"--user-data-dir={profile / 'profile'}", *flags, "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
