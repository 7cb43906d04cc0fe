"""The masker that a configuration names."""

from typing import Annotated

from pydantic import Field
from torch import nn

from vaesweep.families.emd.models.sepformer import SepFormer, SepFormerConfig
from vaesweep.families.emd.models.sudormrf import SuDoRmRf, SuDoRmRfConfig
from vaesweep.families.emd.models.tasnet import TasNetConfig, TemporalConvNet

MaskerConfig = Annotated[TasNetConfig | SuDoRmRfConfig | SepFormerConfig, Field(discriminator="kind")]


def masker(
    features: int, speakers: int, outputs: int, config: TasNetConfig | SuDoRmRfConfig | SepFormerConfig
) -> nn.Module:
    """A freshly initialised network of `[batch, features, frames]` to `[batch, speakers · outputs, frames]`.

    Its numbers are unbounded. `outputs` is what a speaker's mask needs a frame: K, or twice that where each number of
    the mask has a location and a scale.
    """
    match config:
        case TasNetConfig():
            return TemporalConvNet(features, speakers * outputs, config)
        case SuDoRmRfConfig():
            return SuDoRmRf(features, speakers * outputs, config)
        case SepFormerConfig():
            return SepFormer(features, speakers, outputs, config)
