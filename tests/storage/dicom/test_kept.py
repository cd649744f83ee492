"""Conditions that are kept as JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.dicom import kept
from storage.dicom.matching import Absent, AllOf, AnyOf, Condition, Fuzzy, InItem, Not, OneOf, Range, Wildcard

_TEXT = st.text(max_size=8)
_LEAVES = st.one_of(
    st.builds(OneOf, _TEXT, st.lists(_TEXT | st.integers() | st.floats(allow_nan=False), max_size=3).map(tuple)),
    st.builds(Wildcard, _TEXT, _TEXT),
    st.builds(Range, _TEXT, st.none() | _TEXT, st.none() | _TEXT),
    st.builds(Fuzzy, _TEXT, st.lists(st.lists(_TEXT, max_size=2).map(tuple), max_size=2).map(tuple)),
    st.builds(Absent, _TEXT),
)
_CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
        st.builds(InItem, inner),
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(_CONDITIONS)
def test_a_condition_comes_back_as_it_was(condition: Condition) -> None:
    assert kept.load(json.loads(json.dumps(kept.dump(condition)))) == condition


@pytest.mark.parametrize("broken", [{}, {"is": "Everything"}, {"is": "AllOf"}, {"is": "Not", "condition": {}}])
def test_what_is_no_condition_is_not_one_that_lets_in(broken: dict[str, object]) -> None:
    with pytest.raises(KeyError):
        kept.load(broken)
