"""Quantisation-aware training: a student that computes as its INT8 file will."""

from mmkd.quantization.quantized import Quantize, quantize

__all__ = ['Quantize', 'quantize']
