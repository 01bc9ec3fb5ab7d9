"""Docstrings, split into the description and the texts of parameters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchrun.functions.docstrings import split_docstring

WEATHER = """Tell the weather.

    It knows: cities only.

    Args:
        city: the city's name,
            such as "Paris"
        days (int): how many: 1 to 7

    Returns:
        Degrees.

    Note:
        Only Europe.
    """


def test_the_section_of_arguments_goes_to_the_parameters() -> None:
    """Each parameter gets its own text, and the rest is the description."""
    description, texts = split_docstring(WEATHER, ["city", "days"])
    assert texts == {"city": 'the city\'s name, such as "Paris"', "days": "how many: 1 to 7"}
    assert description == (
        "Tell the weather.\n\nIt knows: cities only.\n\nReturns:\n    Degrees.\n\nNote:\n    Only Europe."
    )


def test_a_section_about_anything_else_stays_where_it_is() -> None:
    """An entry for a parameter that the function does not have is kept in the description."""
    description, texts = split_docstring(WEATHER, ["city"])
    assert texts == {}
    assert 'such as "Paris"' in description
    assert "how many: 1 to 7" in description


def test_prose_under_the_heading_stays_where_it_is() -> None:
    """A section that is not a list of parameters is part of the description."""
    docstring = "Sum.\n\nArgs:\n    the first two numbers.\n"
    assert split_docstring(docstring, ["a", "b"]) == (docstring.strip(), {})


def test_other_styles_stay_whole() -> None:
    """reST and numpydoc docstrings are passed to the model unchanged."""
    rest = "Sum.\n\n:param a: the first"
    assert split_docstring(rest, ["a"]) == (rest, {})


@given(st.text(alphabet="ab: \nArgs()", max_size=80))
def test_no_docstring_is_too_odd(docstring: str) -> None:
    """No word of any docstring is lost."""
    description, texts = split_docstring(docstring, ["a", "b"])
    assert len(description.split()) + sum(len(text.split()) for text in texts.values()) <= len(docstring.split())
    if not texts:
        assert description.split() == docstring.split()
