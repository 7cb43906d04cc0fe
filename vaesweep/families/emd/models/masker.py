"""The masker that a configuration names."""

from typing import Annotated

from pydantic import Field
from torch import nn

from vaesweep.families.emd.models.mossformer import MossFormer2, MossFormer2Config
from vaesweep.families.emd.models.sepformer import SepFormer, SepFormerConfig
from vaesweep.families.emd.models.sudormrf import SuDoRmRf, SuDoRmRfConfig
from vaesweep.families.emd.models.tasnet import TasNetConfig, TemporalConvNet
from vaesweep.families.emd.models.tdanet import TdaNet, TdaNetConfig

AnyMaskerConfig = TasNetConfig | SuDoRmRfConfig | SepFormerConfig | TdaNetConfig | MossFormer2Config
MaskerConfig = Annotated[AnyMaskerConfig, Field(discriminator="kind")]


def masker(features: int, speakers: int, outputs: int, config: AnyMaskerConfig) -> nn.Module:
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
        case TdaNetConfig():
            return TdaNet(features, speakers * outputs, config)
        case MossFormer2Config():
            return MossFormer2(features, speakers, outputs, config)
