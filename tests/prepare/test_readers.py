"""Several readers of an image: majority and fused boxes, against definitions written out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.prepare.annotations import Box
from medvlp.prepare.annotations.readers import fuse, majority, overlap


@pytest.mark.parametrize("readers", range(5))
def test_a_majority_is_certain_only_if_the_missing_readers_could_not_change_it(readers):
    for votes in range(readers + 1):
        others = max(3 - readers, 0)
        possible = {votes + more >= 2 for more in range(others + 1)}
        assert majority(votes, readers) == (None if len(possible) == 2 else int(possible.pop()))


def test_boxes_around_the_same_thing_are_one():
    first, second, third = Box("Mass", 0, 0, 10, 10), Box("Mass", 1, 1, 11, 11), Box("Mass", 2, 0, 12, 10)
    assert overlap(first, second) == pytest.approx(81 / 119)
    assert fuse([first, second, third]) == [Box("Mass", 1, 1 / 3, 11, 10 + 1 / 3)]
    elsewhere, other = Box("Mass", 40, 0, 50, 10), Box("Nodule", 0, 0, 10, 10)
    assert fuse([first, elsewhere, other, second]) == [Box("Mass", 0.5, 0.5, 10.5, 10.5), elsewhere, other]
    assert fuse([]) == []
    assert overlap(first, Box("Mass", 10, 0, 20, 10)) == 0


CORNERS = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2)


@given(st.lists(st.tuples(st.sampled_from("ab"), CORNERS), max_size=8))
def test_fused_boxes_lie_within_those_they_stand_for(drawn):
    boxes = [Box(name, x, y, x + w, y + h) for name, (x, y, w, h) in drawn]
    fused = fuse(boxes)
    assert {box.name for box in fused} == {box.name for box in boxes}
    assert len(fused) <= len(boxes)
    for box in fused:
        same = [other for other in boxes if other.name == box.name]
        assert min(b.x1 for b in same) - 1e-9 <= box.x1 < box.x2 <= max(b.x2 for b in same) + 1e-9
        assert any(overlap(box, other) > 0 for other in same)
