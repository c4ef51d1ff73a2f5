"""The page of `where`: which part of a change carries what, and how lazy the training was."""
