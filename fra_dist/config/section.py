"""What every section of the configuration is, and the ranges that its settings name."""

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, le=1e9)]
NonNegative = Annotated[float, Field(ge=0.0, le=1e9)]
"""A thousand million seconds are 31 years; locks and sockets of the operating system take no more than 292."""
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Whole = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""So that products of two, as of steps and images of a step, fit into the 64 bits of numpy and torch."""
Layers = Annotated[int, Field(ge=1, le=128)]
Width = Annotated[int, Field(ge=1, le=2**16)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""What a signed 64-bit number holds, as the hashes of the data plan and torch's generators take it."""
Triple = tuple[float, float, float]
Place = Annotated[str, Field(json_schema_extra={"place": True})]
"""A path or URL: `~` and `$VARIABLES` in it are expanded when a file or override is read, see `places.py`."""


class Section(BaseModel):
    """A section of the configuration: strict types, unchangeable, no unknown keys; its docstrings are the reference."""

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
