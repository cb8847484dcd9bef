"""The two bases of all API types: what users write and read, and what stages hand each other."""

from operator import not_
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Api(BaseModel):
    """camelCase outside, strict about unknown fields and frozen inside."""

    # The docstring under a field is its description in the CRD, the editors' schema and the reference page.
    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def to_json_dict(self) -> dict[str, object]:
        """The JSON form with its outside names, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Recorded(Api):
    """What one version writes and another may read: unknown fields of a newer writer are ignored."""

    model_config = ConfigDict(extra="ignore")


def unless_empty(**bounds: Any) -> Any:
    """A field that is left out where it says nothing (0, false, empty): `kubectl describe` has a line for each."""
    return Field(exclude_if=not_, **bounds)
