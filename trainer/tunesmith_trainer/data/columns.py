"""`columns` of a manifest and a row in, the row as prompt and completion out: names of columns, or sandboxed Jinja."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.sources import ChatFormat, Columns
from tunesmith_trainer.data.names import quoted
from tunesmith_trainer.data.rows import MAX_ROW_BYTES, ColumnAbsent, RowError

Mapped = Callable[[Mapping[str, Any]], dict[str, Any]]
_UNDEFINED = "is undefined"
_Cell = Callable[[Mapping[str, Any]], Any]


class _Absent(StrictUndefined):
    """What a template asks for and a row has not, told in the template's words alone: reasons are published."""

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint is not None:
            return self._undefined_hint
        return f"{self._undefined_name!r} {_UNDEFINED}" if self._undefined_obj is missing else "a value lacks a part"


class _Null(_Absent):
    """An empty cell: nothing that could be written, but something that a template may ask about."""

    def __bool__(self) -> bool:  # type: ignore[override]  # asking is what a strict one refuses
        return False


def _is_none(value: object) -> bool:
    return value is None or isinstance(value, _Null)


def _written(value: object) -> object:
    """What an expression writes; an empty cell inside of a cell would become the word None."""
    if value is None:
        raise UndefinedError("what is to be written is null")
    return value


def mapping(columns: Columns, wanted: ChatFormat) -> Mapped:
    """A function from a row's columns to `prompt`, `completion` and `system`, or to `text` for the format Text.

    It raises `RowError` where a row lacks a column. Raises SpecInvalid for a broken Jinja text or a format that has no
    such columns.
    """
    if wanted not in (ChatFormat.AUTO, ChatFormat.PROMPT_COMPLETION, ChatFormat.TEXT):
        raise StageFailure(
            FailureClass.SPEC_INVALID,
            f"columns go with the formats PromptCompletion and Text, not with {wanted}",
            hint="Remove format or columns.",
        )
    cells = {name: _cell(source) for name, source in _sources(columns, wanted).items()}
    return lambda row: {name: cell(row) for name, cell in cells.items()}


def _named(columns: Columns) -> dict[str, str]:
    sources = {"prompt": columns.prompt, "completion": columns.completion, "system": columns.system}
    return {role: source for role, source in sources.items() if source}


def _sources(columns: Columns, wanted: ChatFormat) -> dict[str, str]:
    """Where each part of a row comes from; prompt and completion from columns of their own names if not said."""
    if wanted is ChatFormat.TEXT:
        return {"text": columns.completion or columns.prompt or "text"}
    return {"prompt": "prompt", "completion": "completion"} | _named(columns)


def absent_columns(columns: Columns, wanted: ChatFormat, present: Iterable[str]) -> dict[str, str]:
    """The columns that the dataset lacks, named by `columns` or left as usual, by what they are wanted for."""
    roles = {source: role for role, source in (*_sources(columns, wanted).items(), *_named(columns).items())}
    there = set(present)
    return {role: source for source, role in roles.items() if source not in there and not _is_jinja(source)}


def _is_jinja(source: str) -> bool:
    return "{{" in source or "{%" in source


def _cell(source: str) -> _Cell:
    return _template(source) if _is_jinja(source) else lambda row: _value(row, source)


def _value(row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        raise ColumnAbsent(f"has no column {quoted([name])}")
    value = row[name]
    # A label is often a number.
    return str(value) if isinstance(value, int | float) else value


def _template(source: str) -> _Cell:
    environment = ImmutableSandboxedEnvironment(
        undefined=_Absent, autoescape=False, keep_trailing_newline=True, finalize=_written
    )
    environment.tests["none"] = _is_none
    try:
        compiled = environment.from_string(source)
    except TemplateError as error:
        message = f"columns holds a Jinja text that cannot be read: {error}"
        raise StageFailure(FailureClass.SPEC_INVALID, message) from error

    def render(row: Mapping[str, Any]) -> str:
        try:
            text = compiled.render({name: _null(name) if value is None else value for name, value in row.items()})
        # A template can fail in any way that an expression can.
        except Exception as error:
            reason = _reason(error)
            of = ColumnAbsent if reason.endswith(_UNDEFINED) else RowError
            raise of(f"does not fit the Jinja text of columns: {reason}") from error
        if len(text) > MAX_ROW_BYTES:
            raise RowError("becomes longer than a row may be through the Jinja text of columns")
        return text

    return render


def _reason(error: Exception) -> str:
    """Why, in words of the template alone: an error of another kind may quote a cell."""
    return str(error) if isinstance(error, UndefinedError) else type(error).__name__


def _null(name: str) -> _Null:
    return _Null(hint=f"the column {name} is null")
