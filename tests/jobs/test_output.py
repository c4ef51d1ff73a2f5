"""What tells one run from another."""

from spillover.jobs.output import telling
from spillover.settings import Inject


def test_an_option_that_is_new_does_not_make_another_run_of_an_old_one():
    told = telling(Inject(pack="p", model="m", out="here", epochs=3), "out", "json")
    assert told == {"pack": "p", "model": "m", "epochs": 3}
    assert telling(Inject(pack="p", model="m", out="here", chat=True), "out")["chat"] is True
