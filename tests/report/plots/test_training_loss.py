import dataclasses

from spillover.metrics.implications import TRAJECTORY_SCHEMA
from spillover.report.run_plots import draw


def test_the_loss_of_every_epoch(make):
    drawing = draw("training-loss", [("a run", make(epochs=4))])
    assert [row["mean"] for row in drawing.rows] == [2.0, 1.0, 2 / 3, 0.5]
    assert drawing.description == "a run: from 2.00 at epoch 1 to 0.50 at epoch 4."


def test_nothing_to_show_without_a_trajectory(make):
    run = dataclasses.replace(make(), trajectory=TRAJECTORY_SCHEMA.empty_table())
    assert draw("training-loss", [("a run", run)]) is None
