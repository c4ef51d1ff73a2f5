import pytest

from spillover.packs.pack import Implication
from spillover.report.audit import build_audit_page
from spillover.report.load import load_run
from tests.report.associations.synthetic_audit import answers, many, write_audit

#: Three subjects live in A, three in B; the map says A -> x and B -> y, and z is a candidate by way of C -> z.
LINK = Implication("lives", "codes", "spurious", {"A": "x", "B": "y", "C": "z"})
TOPS = {
    LINK.name: [
        ("A", "a1", "z", "x"), ("A", "a2", "x", "x"), ("A", "a3", "z", "z"),
        ("B", "b1", "y", "y"), ("B", "b2", "x", "x"), ("B", "b3", "y", "x"),
    ]
}  # fmt: skip
STATED = [(LINK.name, "A", "s1", "x"), (LINK.name, "A", "s2", "x"), (LINK.name, "B", "s3", "z")]


@pytest.fixture
def small(tmp_path):
    """An audit that is small enough to count with a pencil."""
    return load_run(write_audit(tmp_path / "small", [LINK], answers([LINK], TOPS, STATED)))


@pytest.fixture(scope="session")
def large_page(tmp_path_factory):
    """The page of 2,000 associations of 40 implications, hostile text among their subjects and answers."""
    folder = tmp_path_factory.mktemp("audit") / "large"
    return build_audit_page([load_run(write_audit(folder, *many(40, 50)))]).html()
