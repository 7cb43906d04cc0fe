"""WaveformEncoder and decoder are a strided convolution and its transpose, and cover every sample."""

import pytest
import torch
from torch import nn

from vaesweep.families.emd.models.waveforms import WaveformDecoder, WaveformEncoder, frames_of

KERNELS = [(16, 8), (16, 4), (21, 7), (8, 8), (6, 2)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("time", "frames"), [(1, 1), (7, 1), (8, 1), (9, 2), (101, 13), (24000, 3000)])
def test_any_length_comes_back_as_long(time: int, frames: int) -> None:
    encoded = WaveformEncoder(5)(torch.randn(2, time))
    assert encoded.shape == (2, 5, frames)
    assert WaveformDecoder(5, 2)(encoded, time).shape == (2, 2, time)


@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
@pytest.mark.parametrize("time", [40, 43])
def test_an_encoder_is_a_strided_convolution(time: int, kernel: int, stride: int) -> None:
    encoder, x = WaveformEncoder(5, kernel, stride), torch.randn(2, time)
    frames, left = frames_of(time, stride), (kernel - stride) // 2
    padded = nn.functional.pad(x, (left, (frames - 1) * stride + kernel - left - time)).unsqueeze(1)
    torch.testing.assert_close(encoder(x), nn.functional.conv1d(padded, encoder.weight.unsqueeze(1), stride=stride))


@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_decoder_is_a_transposed_convolution(outputs: int, kernel: int, stride: int) -> None:
    decoder, z = WaveformDecoder(5, outputs, kernel, stride), torch.randn(2, 5, 6)
    full = nn.functional.conv_transpose1d(z, decoder.weight, stride=stride)
    left = (kernel - stride) // 2
    torch.testing.assert_close(decoder(z, 6 * stride - 1), full[..., left : left + 6 * stride - 1])


@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
def test_a_decoder_with_the_encoders_weights_is_its_adjoint(kernel: int, stride: int) -> None:
    encoder, decoder = WaveformEncoder(5, kernel, stride).double(), WaveformDecoder(5, 1, kernel, stride).double()
    decoder.weight.data = encoder.weight.detach().unsqueeze(1)
    x = torch.randn(2, 43, dtype=torch.float64)
    z = torch.randn(2, 5, frames_of(43, stride), dtype=torch.float64)
    torch.testing.assert_close((encoder(x) * z).sum(), (x * decoder(z, 43).squeeze(1)).sum())


def test_a_sample_lies_in_two_frames_but_at_the_ends() -> None:
    encoder = WaveformEncoder(1)
    encoder.weight.data.fill_(1.0)
    covered = encoder(torch.eye(40)).sum((1, 2))
    assert covered.tolist() == [1.0] * 4 + [2.0] * 32 + [1.0] * 4


def test_a_signal_one_stride_later_is_encoded_one_frame_later() -> None:
    encoder, x = WaveformEncoder(5), torch.randn(2, 64)
    later = encoder(nn.functional.pad(x, (8, 0)))
    torch.testing.assert_close(later[..., 2:], encoder(x)[..., 1:])


def test_every_source_is_decoded_by_itself() -> None:
    decoder, z = WaveformDecoder(5, 2), torch.randn(2, 3, 5, 6)
    each = torch.stack([decoder(z[:, source], 47) for source in range(3)], dim=1)
    torch.testing.assert_close(decoder(z, 47), each)


def test_weights_start_small() -> None:
    """Uniform on ±0.01: their standard deviation is 0.01 / √3, within five standard errors of 512 · 16 draws."""
    for module in (WaveformEncoder(512), WaveformDecoder(512)):
        assert module.weight.abs().max() <= 1e-2
        assert module.weight.std().item() == pytest.approx(1e-2 / 3**0.5, rel=0.025)


def test_a_kernel_that_is_no_multiple_of_its_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="no multiple"):
        WaveformEncoder(5, 16, 7)
