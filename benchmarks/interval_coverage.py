"""How often the intervals of a comparison hold the difference that there is: a simulation.

    python benchmarks/interval_coverage.py --trials 100

Detectors of two arms are drawn with known spreads: of seeds, of images, of what an arm makes of an
image, and of each model on each image. Each trial draws seeds and images anew and gives three
intervals of 95 %: over seeds alone, over images alone, and over both, as the report has it. The
difference that there is, is the mean over all trials. Log: docs/logs/interval_coverage.txt.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from mmkd.compare.measure.bootstrap import combined_half, image_half, resampled_images
from mmkd.compare.measure.class_matches import ClassMatches, mean_average_precision
from mmkd.compare.report.results import mean_interval

IOU = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class World:
    """Standard deviations of what makes an object easy or hard, in units of its own noise."""

    gain: float = 0.3
    seed: float = 0.15
    image: float = 0.7
    arm_on_image: float = 0.4
    model_on_image: float = 0.3


def detections(generator, counts, skill) -> ClassMatches:
    """A detector on images with so many objects, and with a skill on each of them."""
    image = np.repeat(np.arange(len(counts)), counts)
    quality = skill[image] + generator.normal(size=len(image))
    overlap = 0.65 + 0.15 * quality
    score = quality + generator.normal(size=len(image))
    wrong = generator.poisson(2, len(counts))
    image = np.append(image, np.repeat(np.arange(len(counts)), wrong))
    score = np.append(score, generator.normal(-1, 1, wrong.sum()))
    matched = np.append(overlap >= IOU[:, None], np.zeros((len(IOU), wrong.sum()), bool), axis=1)
    order = np.argsort(-score)
    matched = matched[:, order]
    return ClassMatches(image[order], matched, np.zeros_like(matched), counts)


def trial(generator, seeds: int, images: int, resamples: int, world: World):
    """The difference that a comparison finds; half widths over seeds, images, and both."""
    counts = 1 + generator.poisson(1.5, images)
    hard = generator.normal(0, world.image, images)
    weights = np.append(
        np.ones((1, images), int),
        resampled_images(images, resamples, int(generator.integers(1 << 30))),
        axis=0,
    )
    arms = []
    for gain in (0.0, world.gain):
        of_arm = generator.normal(0, world.arm_on_image, images)
        arms.append(
            [
                mean_average_precision(
                    [
                        detections(
                            generator,
                            counts,
                            gain
                            + generator.normal(0, world.seed)
                            + of_arm
                            - hard
                            + generator.normal(0, world.model_on_image, images),
                        )
                    ],
                    weights,
                )
                for _ in range(seeds)
            ]
        )
    gains = [taught[0] - plain[0] for plain, taught in zip(*arms, strict=True)]
    mean, over_seeds = mean_interval(gains)
    over_images = image_half([t[1:] for t in arms[1]], [b[1:] for b in arms[0]], images)
    return mean, over_seeds, over_images, combined_half(over_seeds, over_images)


def coverage(
    trials: int, seeds: int, images: int, resamples: int = 200, world: World | None = None
):
    """Shares of trials whose interval holds the difference: over seeds, images, and both.

    Also the mean half width of the last, in points.
    """
    generator = np.random.default_rng([seeds, images, trials])
    found = np.array(
        [trial(generator, seeds, images, resamples, world or World()) for _ in range(trials)]
    )
    off = np.abs(found[:, 0] - found[:, 0].mean())[:, None]
    return (off <= found[:, 1:]).mean(0), 100 * np.median(found[:, 3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--trials', type=int, default=100)
    parser.add_argument('--images', type=int, nargs='+', default=[40, 200])
    parser.add_argument('--seeds', type=int, nargs='+', default=[2, 3, 5])
    args = parser.parse_args()
    print(f'coverage of 95 % intervals in {args.trials} simulated comparisons')
    print('images  seeds  over seeds  over images  over both  median half width')
    for images in args.images:
        for seeds in args.seeds:
            (of_seeds, of_images, both), half = coverage(args.trials, seeds, images)
            print(
                f'{images:6}  {seeds:5}  {of_seeds:10.3f}  {of_images:11.3f}  {both:9.3f}  '
                f'{half:10.1f} points',
                flush=True,
            )


if __name__ == '__main__':
    main()
