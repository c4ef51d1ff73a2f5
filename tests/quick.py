"""What `make test` tries of a long list, and what `make test-all` tries besides."""

import pytest


def first(values, number):
    """The first values as they are, and the rest marked as slow."""
    values = list(values)
    return [*values[:number], *(pytest.param(value, marks=pytest.mark.slow) for value in values[number:])]
