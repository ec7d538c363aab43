"""What every section of the campaign file has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the campaign file: unknown keys are refused, and nothing is changed once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
