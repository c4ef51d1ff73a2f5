from spillover.report.study_plots import draw_paper_table


def test_ours_beside_the_papers(study):
    drawing = draw_paper_table([cell for cell in study.done if cell.slug in ("city-language", "counterfactual")])
    # The synthetic runs are of gemma-3-270m, which the paper has not.
    ours = [row for row in drawing.rows if row["model"] == "gemma-3-270m"]
    assert {row["set"]: round(row["mean_rank"], 2) for row in ours}["city-language"] == 0.55
    assert all(row["paper"] is None and row["state"] == "done" and row["clusters"] == 15 for row in ours)
    papers = [row for row in drawing.rows if row["paper"] is not None]
    assert len(papers) == 25 and {row["state"] for row in papers} == {"not run"}
    assert "OLMo-7B on country-code: not run, 0.15 in the paper" in drawing.description
    assert "knows only which answers occur: 2.00" in drawing.svg and drawing.pdf.startswith(b"%PDF")
