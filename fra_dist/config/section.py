"""What every section of the configuration is, and the ranges that its settings name."""

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Triple = tuple[float, float, float]
Place = Annotated[str, Field(json_schema_extra={"place": True})]
"""A path or URL: `~` and `$VARIABLES` in it are expanded when a file or override is read, see `places.py`."""


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def section_of(annotation: Any) -> tuple[type[Section] | None, bool]:
    """(the section that an annotation stands for, whether it is a list of them); (None, False) for plain values."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind, get_origin(annotation) is tuple
    return None, False


def is_text(annotation: Any) -> bool:
    """Whether a key with this annotation takes text, or words of a fixed set."""
    if get_origin(annotation) is Annotated:
        return is_text(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return all(isinstance(word, str) for word in get_args(annotation))
    return annotation is str or (type(None) in get_args(annotation) and any(map(is_text, get_args(annotation))))
