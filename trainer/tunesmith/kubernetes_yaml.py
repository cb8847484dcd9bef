"""Reads YAML as kubectl does: text goes in, JSON values with the lines of their fields come out.

kubectl reads with sigs.k8s.io/yaml, whose scalar rules differ from PyYAML's: ``2e-4`` and ``0o14`` are numbers, ``y``
and ``on`` are booleans, dates and ``1:30`` are strings. Which is which is held in tests/manifests/scalars.json, made
with sigs.k8s.io/yaml v1.6.0 itself and put to a real API server. Unlike kubectl, a field that is there twice is
refused.
"""

import base64
import binascii
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tunesmith.problems import ManifestInvalid, Problem
from tunesmith_api.fields import Field, spell

# An object of the API server is at most 1.5 MiB (etcd's limit on a request); aliases may not unfold into more than
# that either, so neither may the number of values.
MAX_CHARACTERS = 1_572_864
MAX_VALUES = 100_000
MAX_DEPTH = 100

_BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Go's strconv.ParseInt with base 0, after the underscores are taken away.
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|[1-9][0-9]*|0)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INT64, _UINT64 = -(2**63), 2**64 - 1
# From here on Go writes a whole number with an exponent (encoding/json), below it as an integer.
_EXPONENT_FROM = 1e21

_FLOOD = "this unfolds into too much; a manifest is small and flat"
_QUOTE_JINJA = 'put Jinja in quotes: "{{ question }}"'
_PLAIN = "plain"
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its value, and the line (from 1) of each field and entry."""

    value: Any
    lines: dict[Field, int]


class _Loader(yaml.SafeLoader):
    """PyYAML's parser without its scalar rules; a class since PyYAML has no other way to replace them.

    It composes a node by composing what is in it: so deep that the interpreter's stack ends, it is told where.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        # One more than values may lie deep: the document itself is a node too.
        if self._depth > MAX_DEPTH + 1:
            raise _invalid(_FLOOD, self.peek_event().start_mark)  # type: ignore[no-untyped-call]  # the stubs lack its types
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]  # the stubs lack its types


def read_documents(text: str) -> list[Document]:
    """Every document that is not empty.

    Raises ManifestInvalid with the line where the text is no YAML, names a field twice, or unfolds into too much.
    """
    if len(text) > MAX_CHARACTERS:
        raise ManifestInvalid([Problem("", f"the file is too long for a manifest: {len(text):,} characters")])
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _invalid(f"this is no valid YAML: {error.problem}", mark, _cure(text, mark)) from None
    except yaml.YAMLError as error:
        raise ManifestInvalid([Problem("", f"this is no valid YAML: {error}")]) from None
    documents = [_Reading().document(node) for node in nodes if node is not None]
    return [document for document in documents if document.value is not None]


class _Reading:
    """One document being read; holds the lines found so far and how many values there are."""

    def __init__(self) -> None:
        self._lines: dict[Field, int] = {}
        self._values = 0

    def document(self, node: yaml.Node) -> Document:
        return Document(self._value(node, ()), self._lines)

    def _value(self, node: yaml.Node, path: Field) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _invalid(_FLOOD, node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._entry(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._mapping(node, path)

    def _entry(self, node: yaml.Node, path: Field) -> Any:
        self._lines[path] = _line(node.start_mark)
        return self._value(node, path)

    def _mapping(self, node: yaml.Node, path: Field) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _PLAIN and key_node.value == "<<":
                for part in _merged_nodes(value_node):
                    merged = self._value(part, path) | merged
                continue
            key = _key(key_node)
            if key in fields:
                raise _invalid(f"{spell((*path, key))} is there twice", key_node.start_mark)
            self._lines[(*path, key)] = _line(key_node.start_mark)
            fields[key] = self._value(value_node, (*path, key))
        return merged | fields


def _merged_nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for part in parts:
        if not isinstance(part, yaml.MappingNode):
            raise _invalid("'<<' can only merge in what has fields itself", node.start_mark)
        yield part


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        cure = _QUOTE_JINJA if isinstance(node, yaml.MappingNode) else ""
        raise _invalid("the name of a field must be a word", node.start_mark, cure)
    value = _scalar(node)
    if value is None:
        raise _invalid("a field has no name", node.start_mark)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _scalar(node: yaml.ScalarNode) -> Any:
    kind = node.tag.removeprefix(_TAG)
    if kind == "binary":
        try:
            return base64.b64decode(node.value, validate=False).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise _invalid("this is no base64 of a text", node.start_mark) from None
    if kind not in (_PLAIN, "int", "float", "bool", "null"):
        return node.value
    value = resolve(node.value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _invalid(f"{node.value} is no number that JSON can hold", node.start_mark)
    if kind != _PLAIN and isinstance(value, str):
        raise _invalid(f"{node.value!r} cannot be read as !!{kind}", node.start_mark)
    return value


def resolve(text: str) -> bool | int | float | str | None:
    """What an unquoted scalar means (go-yaml v2's resolve); whole numbers are int however they are written."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INFINITE.fullmatch(text):
        return math.inf
    return text if text.startswith("_") else _number(text.replace("_", ""), text)


def _number(digits: str, text: str) -> int | float | str:
    if _INTEGER.fullmatch(digits) and _INT64 <= (value := _integer(digits)) <= _UINT64:
        return value
    if not _FLOAT.fullmatch(digits) or not math.isfinite(number := float(digits)):
        return text
    return int(number) if number.is_integer() and abs(number) < _EXPONENT_FROM else number


def _integer(digits: str) -> int:
    sign = -1 if digits.startswith("-") else 1
    bare = digits.lstrip("+-").lower()
    # Go reads a leading 0 as octal, Python only 0o.
    octal = len(bare) > 1 and bare.isdecimal() and bare.startswith("0")
    return sign * (int(bare, 8) if octal else int(bare, 0))


def _line(mark: yaml.Mark) -> int:
    return mark.line + 1


def _cure(text: str, mark: yaml.Mark | None) -> str:
    """What would make a line valid that holds Jinja, of which YAML takes the braces for its own."""
    line = [] if mark is None else text.splitlines()[mark.line : mark.line + 1]
    return _QUOTE_JINJA if any("{{" in each or "{%" in each for each in line) else ""


def _invalid(what: str, mark: yaml.Mark | None, right: str = "") -> ManifestInvalid:
    return ManifestInvalid([Problem("", what, right, None if mark is None else _line(mark))])
