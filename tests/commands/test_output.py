"""What tells one run from another."""

from dataclasses import replace

from spillover.commands.inject import Inject
from spillover.runs import identity_of

GIVEN = Inject(pack="p", model="m", out="here", epochs=3)


def test_every_setting_is_part_of_a_run_but_where_it_goes():
    own = identity_of(GIVEN, "track")
    assert own == identity_of(replace(GIVEN, out="there", json=True, track="wandb"), "track")
    assert own != identity_of(replace(GIVEN, chat=True), "track")
    assert own != identity_of(GIVEN, "track", runs=["another"])


def test_a_default_that_changes_makes_another_run(monkeypatch):
    """So the values are hashed, and not whether they were given."""
    assert identity_of(GIVEN) == identity_of(replace(GIVEN, lr=5e-5)) != identity_of(replace(GIVEN, lr=6e-5))
