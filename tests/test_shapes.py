"""The checks of shapes and types that `make test-all` adds: what jaxtyping alone refuses is refused here too."""

from collections.abc import Iterator
from dataclasses import dataclass

import jaxtyping
import numpy as np
import pytest
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float

from tests.shapes import Checked

CHECKED = Checked(jaxtyping.jaxtyped)(typechecker=beartype)
REFUSED = (BeartypeCallHintViolation, jaxtyping.TypeCheckError)


@CHECKED
def same(one: Float[np.ndarray, "row"], other: Float[np.ndarray, "row"]) -> Float[np.ndarray, "row"]:
    return one[: len(other) // 2 * 2]


@CHECKED
def twice(number: int, of: "Unknown" = None) -> str:
    return f"{number * 2}" if number < 9 else number


@CHECKED
def upward(number: int) -> Iterator[int]:
    yield from range(number)


def adding(much):
    @CHECKED
    def added(number: int) -> int:
        return number + much

    return added


@CHECKED
@dataclass
class Wide:
    size: int


@CHECKED
@dataclass
class Named:
    size: str


def test_what_fits_passes():
    assert len(same(np.ones(4), np.ones(4))) == 4
    assert twice(2) == twice(number=2, of=object()) == "4"
    assert [*upward(3)] == [0, 1, 2]
    assert [adding(much)(1) for much in (1, 2, 3)] == [2, 3, 4]
    assert Wide(3).size == 3 and Named("three").size == "three"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: same(np.ones(3), np.ones(4)),
        lambda: same(np.ones(3), np.ones(3)),
        lambda: same(np.ones(2), np.ones((2, 1))),
        lambda: twice("two"),
        lambda: twice(9),
        lambda: [*upward("three")],
        lambda: adding(1)("one"),
        lambda: adding(0.5)(1),
        lambda: Wide("wide"),
        lambda: Named(3),
    ],
)
def test_what_does_not_fit_is_refused(wrong):
    adding(1)
    with pytest.raises(REFUSED):
        wrong()
