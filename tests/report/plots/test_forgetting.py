from spillover.report.run_plots import draw_forgetting


def test_one_row_a_run_that_measured_it(make):
    drawing = draw_forgetting([("a run", make()), ("holes", make(metrics={"forgetting_nats": None}))])
    assert [(row["run"], row["value"], row["low"], row["high"]) for row in drawing.rows] == [
        ("a run", 0.21, 0.18, 0.25)
    ]
    assert drawing.description == "a run: +0.210 nats a token."


def test_nothing_to_show_when_it_was_not_measured(make):
    assert draw_forgetting([("holes", make(metrics={"forgetting_nats": None}))]) is None
