"""Names beside marks: none covers another, whatever the marks are."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.report.remedies_plots import Box, around, placed

FRAME = Box(0, 0, 600, 400)
PLACES = st.tuples(st.integers(0, 600), st.integers(0, 400))


@settings(max_examples=40, deadline=None)
@given(st.lists(PLACES, max_size=30))
def test_nothing_covers_anything(places):
    marks = [around(x, y, 12.0) for x, y in places]
    found = placed(marks, [[(110.0, 14.0), (16.0, 14.0)]] * len(marks), FRAME)
    boxes = [box for _, box in found if box.width]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].meets(pair[1])]
    assert not [box for box in boxes if any(box.meets(mark) for mark in marks)]
    assert all(box.within(FRAME) for box in boxes)


def test_a_name_alone_stands_to_the_right():
    ((index, box),) = placed([around(100, 100, 10)], [[(60.0, 14.0), (10.0, 14.0)]], FRAME)
    assert (index, box) == (0, Box(114, 93, 60, 14))


def test_without_room_for_the_name_the_number_stands_there():
    narrow = Box(0, 0, 60, 60)
    ((index, box),) = placed([around(30, 30, 10)], [[(110.0, 14.0), (16.0, 14.0)]], narrow)
    assert index == 1 and box.width == 16.0


def test_without_any_room_it_stands_at_its_mark():
    ((index, box),) = placed([around(5, 5, 10)], [[(110.0, 14.0)]], Box(0, 0, 10, 10))
    assert index == 0 and box == Box(10, 0, 0, 0)
