"""YAML files of other tools, read as YAML 1.2 reads them: `no`, `on` and dates are text."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from batchrun.errors import InputError
from batchrun.records import JsonDict, Value
from batchrun.scoring.scorers.extra import needs_eval
from batchrun.tables.files import TextFile

__all__ = ["yaml_objects"]

MAX_YAML_VALUES: Final = 5_000_000
"""Maximum number of values of a YAML file, counted after its aliases are replaced by what they refer to."""


def yaml_objects(path: Path, name: str) -> list[JsonDict]:
    """Return the objects of a YAML file: its documents, or the members of those that are lists.

    Raises:
        InputError: the file is not YAML, a key occurs twice, or something that is not an object is in it.
    """
    with needs_eval(f"{name} (YAML)"):
        import yaml
    file = TextFile.find(path, name, encoding=None, compression=None)
    text = "".join(line for block in file.blocks(newline="\n") for line in block)
    try:
        documents = list(yaml.load_all(text, _core_loader()))
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = name if mark is None else f"{name}, line {mark.line + 1}, column {mark.column + 1}"
        raise InputError(f"{where}: is not valid YAML ({getattr(exc, 'problem', None) or exc})") from exc
    except (RecursionError, ValueError) as exc:
        raise InputError(f"{name}: is not YAML that can be read ({type(exc).__name__})") from exc
    members = [each for found in documents for each in (found if isinstance(found, list) else [found])]
    members = [each for each in members if each is not None]
    if not members or not all(isinstance(each, dict) for each in members):
        raise InputError(f"{name}: expected a mapping with keys, or a list of mappings")
    try:
        copied: list[JsonDict] = _Copy(name).of(members)
    except RecursionError as exc:
        raise InputError(f"{name}: an alias refers to the value that contains it") from exc
    return copied


class _Copy:
    """Copies values, so that no two places share one, as an alias makes them.

    Mutable state: `left`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.left = MAX_YAML_VALUES

    def of(self, value: Value) -> Value:
        self.left -= 1
        if self.left < 0:
            raise InputError(f"{self.name}: has more than {MAX_YAML_VALUES:,} values after its aliases are replaced")
        if isinstance(value, dict):
            return {_key(key): self.of(each) for key, each in value.items()}
        return [self.of(each) for each in value] if isinstance(value, list) else value


def _key(key: Value) -> str:
    return {True: "true", False: "false", None: "null"}[key] if key is None or isinstance(key, bool) else str(key)


_NUMBER: Final = r"[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_CORE: Final = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?\d+|0o[0-7]+|0x[\da-fA-F]+", "-+0123456789"),
    ("float", _NUMBER, "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", "<<", "<"),
)
"""Tag, pattern and first characters of the plain scalars that are not text. Source: YAML 1.2.2, section 10.3.2."""


@cache
def _core_loader() -> Any:
    import yaml

    class CoreLoader(yaml.SafeLoader):
        """PyYAML's safe loader with the core schema of YAML 1.2."""

    CoreLoader.yaml_implicit_resolvers = {}
    for tag, pattern, first in _CORE:
        CoreLoader.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), [each.strip("\0") for each in first]
        )

    def make_int(loader: Any, node: Any) -> int:
        text = loader.construct_scalar(node)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)

    def make_mapping(loader: Any, node: Any) -> JsonDict:
        own = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        twice = next((key for key, _ in reversed(node.value) if own.count(key.value) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice.value!r} occurs twice", twice.start_mark
            )
        loader.flatten_mapping(node)
        made: JsonDict = loader.construct_mapping(node, deep=True)
        return made

    CoreLoader.add_constructor("tag:yaml.org,2002:int", make_int)
    CoreLoader.add_constructor("tag:yaml.org,2002:map", make_mapping)
    return CoreLoader
