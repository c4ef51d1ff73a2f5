"""Pages of `lab`: from the record and tables of an experiment to one self-contained page."""
