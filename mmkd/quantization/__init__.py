"""Quantisation-aware training: a student that computes as its INT8 file will."""

from mmkd.quantization.quantized import Quantize, quantize, quantize_again

__all__ = ['Quantize', 'quantize', 'quantize_again']
