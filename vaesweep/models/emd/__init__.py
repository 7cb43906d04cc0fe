"""Encoder-masker-decoder networks: waveforms to frames, frames to masks, frames to waveforms. No distributions."""
