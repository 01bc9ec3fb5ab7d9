"""MiniJinja next to Jinja: what is the same, what is written otherwise, and that the message says how."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import minijinja
import pytest
from hypothesis import given
from hypothesis import strategies as st

import batchrun
from batchrun.errors import InputError
from batchrun.prompts.template_engine import template_environment, template_value
from batchrun.prompts.template_filters import TEMPLATE_ERRORS, explained
from batchrun.prompts.templates import PromptError, prompter_for
from batchrun.records import Row

PAGE = Path(batchrun.__file__).parents[1] / "docs" / "reference" / "templates.md"
JINJA = jinja2.Environment(undefined=jinja2.StrictUndefined)
HERE = template_environment()

CELLS: dict[str, Any] = {
    "text": "Hello wonderful world, this is a long sentence with a well-known end.",
    "short": "foo bar",
    "lines": "a\nb b b b\n\nc",
    "html": "<p>Hi <b>you</b> &amp; me</p>",
    "count": 3,
    "share": 2.567,
    "bytes": 1234567,
    "empty": "",
    "numbers": [3, 1, 2],
    "people": [{"name": "x", "age": 2}, {"name": "y", "age": 1}],
}

SAME = """
text|truncate  text|truncate(5)  text|truncate(20)  text|truncate(20,true)  text|truncate(20,true,'…')
text|truncate(20,false,'...',0)  text|truncate(length=20,killwords=true,end='')  short|truncate(5)  short|truncate(4,leeway=0)
text|wordwrap  text|wordwrap(20)  text|wordwrap(15,false)  text|wordwrap(width=20,wrapstring='|')  lines|wordwrap(3)
text|wordwrap(20,true,'|',false)  text|wordcount  lines|wordcount  empty|wordcount  short|center(20)  short|center  short|center(3)
'%s-%s'|format(short,count)  '%05.2f'|format(share)  '%(a)s'|format(a=1)  '{}'.format(short)  '{:.2f}'.format(share)
html|striptags  lines|striptags  bytes|filesizeformat  bytes|filesizeformat(true)  500|filesizeformat  short|upper  short|title
"it's a dog-house"|title  'hELLO'|capitalize  short|replace('o','0')  short|replace('o','0',1)  ' a '|trim  short|trim('f')
lines|indent  lines|indent(2,true)  lines|indent(2,blank=true)  numbers|join(',')  people|join(',',attribute='name')  numbers|length
numbers|sort|join  numbers|sort(reverse=true)|join  people|sort(attribute='age')|map(attribute='name')|join  numbers|sum  numbers|min
numbers|max  numbers|first  numbers|last  ['a','A']|unique|join  short|reverse  numbers|batch(2)|map('join','+')|join('/')
numbers|select('odd')|join  numbers|reject('odd')|join  people|selectattr('age','>',1)|map(attribute='name')|join  share|round
2.5|round  3.5|round  share|round(2,'floor')  3|round  '3.7'|int  'abc'|int(5)  '0x1f'|int(0,16)  count|float  count|string  count|abs
7//2  -7//2  -7%3  7/2  2**3  2**-1  'a'*3  count~short  short[0]  short[-1]  short[1:3]  short[::-1]  numbers[1:]|join
zz|default('x')  empty|default('x',true)  empty|default('x')  'ab/c?d'|urlencode  1.0  0.1+0.2  range(3)|list  short.split('o')|length
short.upper()  short.startswith('f')  short.find('b')  short.count('o')  '12'.isdigit()  (numbers|join(',')).split(',')|join
count is odd  count is divisibleby(3)  'foo' in short  zz is defined  empty or 'x'  not count  true  none is none  1 == 1.0
"""
"""Expressions, two blanks between them; each gives the same text in both engines."""


def rendered(engine: Any, template: str, cells: dict[str, Any]) -> str:
    return str(engine.from_string(template).render(**cells)) if engine is JINJA else HERE.render_str(template, **cells)


@pytest.mark.parametrize("expression", re.split(r"  |\n", SAME.strip()))
def test_an_expression_gives_what_it_gives_in_jinja(expression: str) -> None:
    """Filters, methods and operators that people use in prompts give the text that Jinja gives."""
    template = f"{{{{ {expression} }}}}"
    cells = {name: template_value(value) for name, value in CELLS.items()}
    assert rendered(HERE, template, cells) == rendered(JINJA, template, CELLS)


def table() -> list[tuple[str, str]]:
    section = PAGE.read_text(encoding="utf-8").partition("## What differs from Jinja")[2]
    rows = re.findall(r"^\| `(.+)` \| `(.+)` \|$", section, re.MULTILINE)
    return [(left.replace("\\|", "|"), right.replace("\\|", "|")) for left, right in rows]


@pytest.mark.parametrize(("jinja", "here"), table())
def test_the_page_says_what_to_write(jinja: str, here: str) -> None:
    """Each line of the page: the left side fails here with a message that names the alternative, and the right side gives
    what the left side gives in Jinja."""
    cells = {"text": "42", "topic": "Maths"}
    with pytest.raises(TEMPLATE_ERRORS) as caught:
        rendered(HERE, f"{{{{ {jinja} }}}}", cells)
    assert "; write " in explained(caught.value)
    assert rendered(HERE, f"{{{{ {here} }}}}", cells) == rendered(JINJA, f"{{{{ {jinja} }}}}", cells)


def test_the_examples_of_the_page_render() -> None:
    """Each template in the table of examples renders."""
    section = PAGE.read_text(encoding="utf-8").partition("## What differs")[0]
    templates = [each.replace("\\|", "|") for each in re.findall(r"^\| .+ \| `(.+)` \|$", section, re.MULTILINE)]
    cells = {"text": "a", "price": 2.5, "options": ["a", "b"], "record": {"a": 1}, "page": "<b>x</b>", "hint": "h"}
    texts = [rendered(HERE, each, {name: template_value(value) for name, value in cells.items()}) for each in templates]
    assert texts == ["a", "a", "2.50", "a", "- a\n- b\n", "a, b", '{\n  "a": 1\n}', "x", "Hint: h"]


PLAIN = minijinja.Environment(undefined_behavior="strict")
CALLS = [
    "truncate",
    "truncate(length=width)",
    "truncate(length=width, killwords=true, end='…')",
    "truncate(length=width, leeway=0)",
    "wordwrap",
    "wordwrap(width=width)",
    "wordwrap(width=width, break_long_words=false, wrapstring='|')",
    "wordwrap(width=width, break_on_hyphens=false)",
]


@given(st.text(st.sampled_from("ab-é日 \n\t\x1c\u2028👩‍👧")), st.integers(0, 12), st.sampled_from(CALLS))
def test_what_could_be_rendered_before_is_the_same(text: str, width: int, call: str) -> None:
    """A prompt that the engine renders without these filters is rendered to the same text with them, so that no journal of
    an earlier version has rows that are asked again."""
    for value in (text, None):
        try:
            before = PLAIN.eval_expr(f"value | {call}", value=value, width=width)
        except minijinja.TemplateError:
            continue
        assert HERE.eval_expr(f"value | {call}", value=value, width=width) == before


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("text | truncate(1, 2, 3, 4, 5)", "truncate: expected at most 4 parameters, got 5"),
        ("text | truncate(5, length=5)", "truncate: length is given twice"),
        ("text | truncate(1)", "truncate: invalid operation: expected length >= 3, got 1"),
        ("text | wordwrap('x')", "wordwrap: invalid operation"),
        ("record.zz | wordcount", "wordcount: undefined value"),
        ("text | center('x')", "cannot be interpreted as an integer"),
        ("options.index('zz')", "'zz' is not in list"),
        ("text | nothing", "unknown filter: filter nothing is unknown"),
        ("text | random", "a prompt must be the same each time it is rendered"),
    ],
)
def test_an_error_in_a_template_fails_its_row(expression: str, words: str) -> None:
    """Wrong parameters, and errors of the methods of lists, fail the row with a message; they do not end the batch."""
    row = Row(0, {"text": "Hello wonderful world", "record": {"a": 1}, "options": ["a"]})
    with pytest.raises((InputError, PromptError), match=re.escape(words)):
        prompter_for({"prompt": f"{{{{ {expression} }}}}"}, list(row.values), None).render(row)
