"""Our own solvers of the two max-margin programs; docs/theory.md, "The splitting method"."""
