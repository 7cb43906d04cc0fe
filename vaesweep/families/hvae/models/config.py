"""The shape of a hierarchy: its levels, and what makes one: discrete blocks or a latent SDE (thesis study C)."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vaesweep.families.hvae.models.names import INITIAL, level_name
from vaesweep.packing import Frozen, Since
from vaesweep.sde import SOLVERS

INITIAL_NOISE = "initial_noise"  # what its noise is called in a batch
ON_GRID = 1e-5  # by what share the steps of a level may miss its depth: a third is written with six digits


class ContinuousDepth(Frozen):
    """Each level is a latent SDE over one unit of depth, its weights shared over that depth (CD-VAE)."""

    kind: Literal["continuous"] = "continuous"
    step: float = Field(0.1, ge=1e-6, le=1, description="Δs in training, and where nothing else is asked for")
    solver: str = Field(
        "euler_heun",
        description=f"of training, one of {', '.join(SOLVERS)}; evaluation of the last takes Euler's steps",
    )
    hidden: int = Field(128, ge=1, description="channels within a drift")
    diffusion: float = Field(0.5, gt=0, description="σ of each level before training")
    recompute: int = Field(
        0, ge=0, description="steps whose activations are computed again for the gradient; 0 keeps all of them"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.solver not in SOLVERS:
            raise ValueError(f"there is no solver {self.solver!r}; there are {', '.join(SOLVERS)}")
        if abs(self.step * self.layers - 1) > ON_GRID:
            raise ValueError(
                f"a step of {self.step:g} does not divide a level's depth of 1; give 1/n, such as {1 / self.layers:.6g}"
            )
        return self

    @property
    def layers(self) -> int:
        """The number of noise draws a level takes in training: one for each step."""
        return round(1 / self.step)


class OdeLike(ContinuousDepth):
    """The thesis' ODE-like comparison (line 1765): data enter by the initial value alone, and no level has a rate.

    There the prior's drift is not trained, since nothing weighs the path rate, and the posterior's sees no data. Here
    the two are one drift: the model that the thesis trains, with a path rate of zero and a valid bound.
    """

    kind: Literal["ode_like"] = "ode_like"  # type: ignore[assignment]


class DiscreteDepth(Frozen):
    """Each level is a row of top-down blocks, each with weights of its own (VD-VAE, Child 2021)."""

    kind: Literal["discrete"] = "discrete"
    blocks: int = Field(3, ge=1, description="of a level")
    hidden: int = Field(32, ge=1, description="channels within a block")
    zero_prior: Annotated[bool, Since("0.2")] = Field(
        False, description="whether every block's prior begins at N(0, 1), as by Child (2021), and not just near it"
    )

    @property
    def layers(self) -> int:
        """The number of noise draws a level takes: one for each block."""
        return self.blocks


Depth = Annotated[ContinuousDepth | OdeLike | DiscreteDepth, Field(discriminator="kind")]


class HierarchyConfig(Frozen):
    """The shape of a hierarchy; the defaults are the thesis' model of Poisson images, as far as its lines give it.

    They give (1881 to 1890) levels, latents, widths, blocks of the decoder, Δs and the solver. `finest`,
    `encoder_blocks`, σ before training and what came after the first release are ours.
    """

    size: int = Field(16, ge=1, description="height and width of an image, pixels")
    observation: Literal["gaussian", "bernoulli", "logistic"] = "gaussian"
    levels: int = Field(
        3, ge=1, le=16, description="of latent variables, each of twice the resolution of the one above"
    )
    finest: int = Field(1, ge=1, description="pixels along an edge of the last level's latent pixel")
    latents: int = Field(4, ge=1, description="channels of a latent pixel")
    width: int = Field(128, ge=1, description="channels of the bottom-up path, of discrete levels and of the decoder")
    hidden: int = Field(128, ge=1, description="channels within the blocks of bottom-up path and decoder")
    encoder_blocks: int = Field(2, ge=1, description="of each level of the bottom-up path")
    decoder_blocks: int = Field(3, ge=1, description="after the last level")
    top: Annotated[int, Since("0.2")] = Field(
        0, ge=0, description="numbers of an initial value of the whole image, dense; 0 has one of level 0's shape"
    )
    biases: Annotated[bool, Since("0.2")] = Field(
        False, description="whether every place has a learnt bias where a level begins"
    )
    mean_image: Annotated[bool, Since("0.2")] = Field(
        False, description="whether every pixel has a learnt bias, which begins at the training images' mean"
    )
    depth: Depth = ContinuousDepth()

    @model_validator(mode="after")
    def _check(self) -> Self:
        coarsest = self.finest * 2 ** (self.levels - 1)
        if self.size % coarsest:
            raise ValueError(
                f"{self.levels} levels over latent pixels of {self.finest} need images whose size is a multiple of "
                f"{coarsest}, not {self.size}; set another model.size, fewer levels or another finest"
            )
        return self

    def resolution(self, level: int) -> int:
        """Latent pixels along an edge of a level."""
        return self.size // self.finest // 2 ** (self.levels - 1 - level)

    def shape(self, level: int) -> tuple[int, int, int]:
        """The shape of one noise draw of a level: `(latents, height, width)`."""
        edge = self.resolution(level)
        return (self.latents, edge, edge)

    @property
    def initial_shape(self) -> tuple[int, int, int]:
        """The shape of the initial value."""
        return (self.top, 1, 1) if self.top else self.shape(0)

    @property
    def rate_names(self) -> tuple[str, ...]:
        """The rates, from the top: of the initial value, then of each level."""
        return (INITIAL, *(level_name(level) for level in range(self.levels)))

    def noise_shapes(self, layers: int | None = None) -> Mapping[str, tuple[int, ...]]:
        """The standard normal noise of a datum, by `forward`'s argument; `layers` a level, by default training's."""
        count = layers or self.depth.layers
        levels = {f"{level_name(level)}_noise": (count, *self.shape(level)) for level in range(self.levels)}
        return {INITIAL_NOISE: self.initial_shape} | levels
