"""The section ``measure`` of the campaign file: barrier, diffusion and probes."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from curator.section import Duration, Length, Section, Temperature, Temperatures


class Diffusion(Section):
    """Molecular dynamics that measures; its temperatures are ascending, however they were given."""

    temperatures_K: Temperatures = Field((500.0, 700.0, 1000.0), description="Temperatures in K.")
    tolerance_eV: float = Field(0.05, gt=0, description="Ea has converged when it is known to agree within this.")
    replicas: int = Field(2, ge=1, description="Independent trajectories per temperature.")
    duration_ps: Duration = Field(
        20.0,
        description="Length of each trajectory in ps: one for all temperatures, or a list with one for each of them.",
    )
    equilibration_ps: float = Field(1.0, ge=0, description="Left out at the start of each trajectory, in ps.")
    timestep_fs: float = Field(2.0, gt=0, le=10, description="Time step in fs.")
    every_round: bool = Field(
        False,
        description="Measure in every round; by default MD is bought when the barrier has settled, or at the end. "
        "Where no hop is followed, every round is measured anyway.",
    )

    @model_validator(mode="after")
    def _one_duration_each(self) -> Self:
        if isinstance(self.duration_ps, tuple) and len(self.duration_ps) != len(self.temperatures_K):
            raise ValueError(
                f"duration_ps holds {len(self.duration_ps)} lengths for {len(self.temperatures_K)} temperatures; "
                "give one for all, or one for each"
            )
        return self

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        # Rounds are compared by their temperatures. A section is frozen only once it has been checked.
        points = sorted(zip(self.temperatures_K, self.durations_ps, strict=True))
        temperatures_K, durations_ps = zip(*points, strict=True)
        object.__setattr__(self, "temperatures_K", temperatures_K)
        if isinstance(self.duration_ps, tuple):
            object.__setattr__(self, "duration_ps", durations_ps)
        return self

    @property
    def durations_ps(self) -> tuple[float, ...]:
        """Length of each trajectory at each temperature."""
        if isinstance(self.duration_ps, tuple):
            return self.duration_ps
        return (self.duration_ps,) * len(self.temperatures_K)


class Probes(Section):
    """Questions about what lies outside the training frames, asked after every fit; docs/probes.md explains them."""

    structures: int = Field(5, ge=1, description="Random structures, relaxed at each pressure.")
    pressures_GPa: Annotated[tuple[float, ...], Field(min_length=1)] = Field((0.1, 50.0), description="In GPa.")
    trajectories: int = Field(1, ge=1, description="Hot trajectories.")
    temperature_K: Temperature | None = Field(
        None, description="Their temperature in K; 1.5 times the hottest of explore by default."
    )
    duration_ps: Length = Field(0.5, description="Their length in ps.")


class Measure(Section):
    """What decides whether the campaign has converged."""

    barrier: bool | None = Field(
        None,
        description="Follow the migration barrier, and label its minimum and saddle each round; where a hop is known.",
    )
    path_images: int = Field(
        1, ge=0, le=9, description="Images between minimum and saddle that are labelled with them each round."
    )
    diffusion: Diffusion | None = Field(Diffusion(), description="Diffusivities and their activation energy.")
    probes: Probes | None = Field(Probes(), description="Holes, dimers, hot dynamics and symmetry; null skips them.")
    exam: bool = Field(True, description="Label a second hop and ten fresh frames at the end; never trained on.")
