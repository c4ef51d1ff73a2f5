"""The page of a comparison of remedies: the frontier, one advice with its reason, and what each cost."""
