"""What the sections of the campaign file have in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag


class Section(BaseModel):
    """A section of the campaign file: unknown keys are refused, and nothing is changed once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _distinct(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) < len(values):
        raise ValueError("a temperature is given twice; runs of the same temperature are replicas")
    return values


Temperature = Annotated[float, Field(gt=0, le=10000)]
Temperatures = Annotated[tuple[Temperature, ...], Field(min_length=1), AfterValidator(_distinct)]
Length = Annotated[float, Field(gt=0)]
Duration = Annotated[
    Annotated[Length, Tag("one")] | Annotated[tuple[Length, ...], Tag("each")],
    Discriminator(lambda value: "each" if isinstance(value, list | tuple) else "one"),
]
