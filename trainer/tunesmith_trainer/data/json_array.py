"""A JSON text in, the elements of its list out, one at a time: a list, or an object that holds exactly one list."""

import json
from collections.abc import Iterator
from typing import Any, TextIO

from tunesmith_trainer.data.rows import MAX_ROW_BYTES

_CHUNK = 1 << 20
_WHITE = " \t\n\r"


class _Text:
    """A window that moves over the text: `peek` and `take` one character, `value` one JSON value."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._decoder = json.JSONDecoder()

    def _fill(self, size: int = _CHUNK) -> None:
        more = self._file.read(size)
        self._ended = not more
        self._buffer = self._buffer[self._at :] + more
        self._at = 0

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in _WHITE:
                self._at += 1
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if self._ended:
                return ""
            self._fill()

    def take(self, expected: str) -> str:
        """The next character, which must be one of `expected`; raises ValueError otherwise."""
        found = self.peek()
        if not found or found not in expected:
            wanted = " or ".join(expected)
            raise ValueError(f"expected {wanted}, found {found or 'the end of the file'}")
        self._at += 1
        return found

    def value(self) -> Any:
        """The next JSON value, of at most MAX_ROW_BYTES characters; raises ValueError where there is none."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
                # A number at the end of the window may go on in the next one.
                if end < len(self._buffer) or self._ended:
                    self._at = end
                    return value
            except json.JSONDecodeError:
                if self._ended:
                    raise
            held = len(self._buffer) - self._at
            if held > MAX_ROW_BYTES:
                raise ValueError(f"a value is broken, or longer than {MAX_ROW_BYTES // 2**20} MiB")
            self._fill(max(_CHUNK, held))


def json_elements(file: TextIO) -> Iterator[Any]:
    """The elements in order; raises ValueError (json.JSONDecodeError among them) where the text is another."""
    text = _Text(file)
    if text.peek() == "[":
        yield from _elements(text)
    else:
        yield from _only_list(text)
    if rest := text.peek():
        raise ValueError(f"{rest} follows the end of the JSON text")


def _elements(text: _Text) -> Iterator[Any]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        yield text.value()
        if text.take(",]") == "]":
            return


def _only_list(text: _Text) -> Iterator[Any]:
    text.take("{")
    lists = 0
    while text.peek() != "}":
        text.value()
        text.take(":")
        if text.peek() == "[":
            lists += 1
            if lists > 1:
                raise ValueError("the object holds more than one list")
            yield from _elements(text)
        else:
            text.value()
        if text.peek() != "}":
            text.take(",")
    text.take("}")
    if not lists:
        raise ValueError("the object holds no list of rows")
