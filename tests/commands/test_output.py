"""What tells one run from another."""

from spillover.config import Inject
from spillover.runs import identifying_settings


def test_an_option_that_is_new_does_not_make_another_run_of_an_old_one():
    told = identifying_settings(Inject(pack="p", model="m", out="here", epochs=3), "out", "json")
    assert told == {"pack": "p", "model": "m", "epochs": 3}
    assert identifying_settings(Inject(pack="p", model="m", out="here", chat=True), "out")["chat"] is True
