"""Wide convolutions of 3 x 3 cells in float32: Winograd's way against oneDNN's, channels last.

    python benchmarks/wide_convolutions.py [--quick] [--rounds 7] [--threads 1]

Ratios of CPU time, medians over rounds in which both take turns, and how far results are from those
in float64, by their largest value. "There" finds the maps (frozen: with the weights' other form at
hand), "back" the gradient of what was read, "weights" that of the weights.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import measured_pairs  # noqa: F401  (first: it makes mmdet importable)
import torch

from mmkd.cost.paired_seconds import paired_seconds
from mmkd.runner.kept_memory import keep_memory
from mmkd.teachers.winograd_conv import convolve, kernels, weight_gradient

LAYERS = {  # images, channels read and given, side of the maps
    'VGG16, 2nd stage': (4, 128, 128, 150),
    'VGG16, 3rd stage': (4, 256, 256, 75),
    'VGG16, 4th stage': (4, 512, 512, 38),
    'VGG16, 5th stage': (4, 512, 512, 19),
    'YOLOv5m, stride 16': (2, 192, 192, 40),
    'YOLOv5m, stride 32': (2, 384, 384, 20),
    'YOLOv5s, stride 16': (2, 128, 128, 40),
    'YOLOv5s, stride 32': (2, 256, 256, 20),
}


def contenders(images: int, channels: int, outputs: int, side: int) -> dict[str, Callable]:
    """Both ways of each kind, on random maps and weights."""
    torch.manual_seed(0)

    def last(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(memory_format=torch.channels_last)

    maps, grad = last(images, channels, side, side), last(images, outputs, side, side)
    weight = last(outputs, channels, 3, 3) / (9 * channels) ** 0.5
    made = kernels(weight)

    def gradients(*which: bool) -> Callable[[], torch.Tensor]:
        rest = None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [*which, False]
        back = torch.ops.aten.convolution_backward
        return lambda: next(g for g in back(grad, maps, weight, *rest) if g is not None)

    return {
        'there': lambda: torch.conv2d(maps, weight, None, 1, 1),
        'back': gradients(True, False),
        'weights': gradients(False, True),
        'own there': lambda: convolve(maps, kernels(weight), None, 1),
        'own frozen': lambda: convolve(maps, made, None, 1),
        'own back': lambda: convolve(grad, made, None, 1, back=True),
        'own weights': lambda: weight_gradient(maps, grad, 1),
        'exact there': lambda: torch.conv2d(maps[:1].double(), weight.double(), None, 1, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='one round of the smallest layer')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_memory()
    print(f'ratios of CPU time, {args.threads} threads')
    print(f"{'':22}{'there':>8}{'frozen':>8}{'back':>8}{'weights':>8}   deviation, oneDNN's")
    for name, layer in LAYERS.items():
        if args.quick and name != 'YOLOv5s, stride 16':
            continue
        ways = contenders(*layer)
        exact = ways.pop('exact there')()
        far = [
            float((ways[way]()[:1] - exact).abs().max() / exact.abs().max())
            for way in ('own there', 'there')
        ]
        clock = time.process_time
        seconds = paired_seconds(ways, 1 if args.quick else args.rounds, clock=clock)
        ratios = [
            statistics.median(a / b for a, b in zip(seconds[own], seconds[other], strict=True))
            for own, other in (
                ('own there', 'there'),
                ('own frozen', 'there'),
                ('own back', 'back'),
                ('own weights', 'weights'),
            )
        ]
        shown = ''.join(f'{ratio:8.2f}' for ratio in ratios)
        print(f'{name:22}{shown}   {far[0]:.1e}, {far[1]:.1e}', flush=True)


if __name__ == '__main__':
    main()
