"""Numbers with intervals, from tables. Nothing here needs torch."""
