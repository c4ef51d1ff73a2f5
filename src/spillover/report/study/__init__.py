"""The page of a study: many runs that belong together, in one table and a few figures."""
