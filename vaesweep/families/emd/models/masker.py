"""The masker that a configuration names."""

from typing import Annotated

from pydantic import Field
from torch import nn

from vaesweep.families.emd.models.sepformer import SepFormer, SepFormerConfig
from vaesweep.families.emd.models.sudormrf import SuDoRmRf, SuDoRmRfConfig
from vaesweep.families.emd.models.tasnet import TasNetConfig, TemporalConvNet

MaskerConfig = Annotated[TasNetConfig | SuDoRmRfConfig | SepFormerConfig, Field(discriminator="kind")]


def masker(features: int, outputs: int, config: TasNetConfig | SuDoRmRfConfig | SepFormerConfig) -> nn.Module:
    """A freshly initialised network of `[batch, features, frames]` to `[batch, outputs, frames]`, unbounded numbers.

    `outputs` is what all masks need a frame: sources · K, or twice that where each has a location and a scale.
    """
    match config:
        case TasNetConfig():
            return TemporalConvNet(features, outputs, config)
        case SuDoRmRfConfig():
            return SuDoRmRf(features, outputs, config)
        case SepFormerConfig():
            return SepFormer(features, outputs, config)
