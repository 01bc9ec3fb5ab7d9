"""Numbers as people and models write them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.scoring.scorers.numbers import last_number, numbers_in


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("so it is 18.", "18"),
        ("#### 18", "18"),
        ("**-5**", "-5"),
        ("1,234", "1234"),
        ("$1,234.50.", "1234.5"),
        ("1.234", "1.234"),
        ("1.234,5", "1234.5"),
        ("1.234.567", "1234567"),
        ("1 234", "1234"),
        ("1\u202f234,5", "1234.5"),
        ("1'234.5", "1234.5"),
        ("1{,}234", "1234"),
        (r"1\,234", "1234"),
        ("1,23", "1.23"),
        ("0,123", "0.123"),
        ("1,2,3", "3"),
        ("in 2020 100 people", "100"),
        (".5", "0.5"),
        ("10-3", "3"),
        ("a - 3", "3"),
        ("3–5", "5"),
        ("x = -3", "-3"),
        ("−7", "-7"),
        ("-$5.50", "-5.5"),
        ("$-5", "-5"),
        ("USD100", "100"),
        ("US$ 20", "20"),
        (r"$\$18$", "18"),
        ("100m2", "100"),
        ("1.2e-5", "0.000012"),
        ("1.2 × 10^5", "120000"),
        (r"1.2 \times 10^{-2}", "0.012"),
        ("2·10⁵", "200000"),
        ("3 million", "3000000"),
        ("3/4", "3/4"),
        ("1 3/4", "7/4"),
        ("1¾", "7/4"),
        ("⅓", "1/3"),
        (r"-\frac{1}{2}", "-1/2"),
        ("3/4/2025", "2025"),
        ("12/34/2025", "2025"),
        ("3.14.15", "3.14"),
        ("at 3:45", "45"),
    ],
)
def test_the_last_number(text: str, value: str) -> None:
    """Each way of writing a number is read exactly."""
    found = last_number(text)
    assert found is not None
    assert found.value == Fraction(value)


@pytest.mark.parametrize("text", ["", "none", "H2O", "gsm8k", "1e999999", "9" * 2_000, "x_1"])
def test_texts_without_a_number(text: str) -> None:
    """Names, and numbers beyond the limits, are not read as numbers."""
    assert last_number(text) is None


@pytest.mark.parametrize("text", ["50 %", "50%", r"50\%", "50 percent"])
def test_a_percentage_keeps_its_value(text: str) -> None:
    """A percentage is marked and not divided."""
    found = last_number(text)
    assert found is not None
    assert (found.value, found.percent, found.text) == (Fraction(50), True, text)


def test_a_decimal_comma_can_be_chosen() -> None:
    """The option decides if the digits are ambiguous: 1,234 and 1.234 swap their meanings."""
    values = [last_number(text, ",") for text in ("1,234", "1.234", "1.234,5", "3,5")]
    assert [each and (each.value, each.text) for each in values] == [
        (Fraction("1.234"), "1,234"),
        (1234, "1.234"),
        (Fraction("1234.5"), "1.234,5"),
        (Fraction("3.5"), "3,5"),
    ]


def test_all_numbers_in_order() -> None:
    """Every number of a text is found once, as written."""
    found = [each.text for each in numbers_in("16 - 3 - 4 = 9, and 9 * $2 = $18; 5/0; (-1.5)")]
    assert found == ["16", "3", "4", "9", "9", "$2", "$18", "5", "0", "-1.5"]


def test_the_end_of_a_long_text_is_enough() -> None:
    """A number far from the end of a long text is found as well as one at its end."""
    filler = "word " * 500
    assert last_number(f"{filler} 12 {filler}") == last_number("12 ")
    assert last_number(f"12 {filler} H2O") == last_number("12")


@given(st.integers(-(10**30), 10**30), st.integers(0, 10**6))
def test_what_python_formats_is_read_back(whole: int, digits: int) -> None:
    """Integers with commas and decimals of any size are read back exactly."""
    for text in (f"{whole:,}", f"{whole}.{digits:06d}", f"about {whole} apples"):
        found = last_number(text)
        assert found is not None
        assert found.value == Fraction(text.replace(",", "").removeprefix("about ").removesuffix(" apples"))


@given(st.text(alphabet="0123456789.,/ -−–+%$e¾⁵·×{}\\^frac'", max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    """No mixture of digits and signs raises an error, and the text of each number occurs in the input."""
    found = last_number(text)
    if found is not None and "\\" not in text and "{,}" not in text:
        assert found.text in text
