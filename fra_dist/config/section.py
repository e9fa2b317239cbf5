"""What every section of the configuration is, and the ranges that its settings name."""

from typing import Annotated

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


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
