"""Random maps and targets of the form that SSDHead works with."""

import torch

NUM_CLASSES = 3
SIZES = ((3, 4), (2, 1))  # H, W of each level
ANCHORS = (2, 3)  # per cell, of each level
PRIORS = [h * w * a for (h, w), a in zip(SIZES, ANCHORS, strict=True)]  # 24, 6


def maps(seed, width, scale=1.0, num_images=2, dtype=torch.float32):
    """Levels (B, A * width, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return [
        scale * torch.randn(num_images, a * width, h, w, generator=generator, dtype=dtype)
        for (h, w), a in zip(SIZES, ANCHORS, strict=True)
    ]


def targets(seed, share=0.2, num_images=2, ignored=0.0, dtype=torch.float32):
    """What get_targets returns, with about ``share`` of the priors positive."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    labels, label_weights, boxes, box_weights = [], [], [], []
    for num in PRIORS:
        positive = rand(num_images, num) < share
        classes = (rand(num_images, num) * NUM_CLASSES).long()
        labels.append(torch.where(positive, classes, NUM_CLASSES))
        label_weights.append((positive | (rand(num_images, num) >= ignored)).to(dtype))
        box_weights.append(positive.to(dtype)[..., None].repeat(1, 1, 4))
        boxes.append(4 * (rand(num_images, num, 4) - 0.5) * box_weights[-1])
    per_image = torch.cat(box_weights, 1)[..., 0].sum(1)
    avg_factor = int(per_image.clamp(min=1).sum())  # as PseudoSampler counts
    return labels, label_weights, boxes, box_weights, avg_factor


def rows(levels, width, image):
    """The priors of an image in the order of get_targets, by plain loops."""
    found = []
    for level in levels:
        _, channels, height, columns = level.shape
        for y in range(height):
            for x in range(columns):
                for a in range(channels // width):
                    found.append(level[image, a * width : (a + 1) * width, y, x])
    return found
