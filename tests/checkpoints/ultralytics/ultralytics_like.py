"""A small YOLOv5 (v6.0 to 7.0) under Ultralytics' class names, to write files in its format.

Written from the architecture's public description, independent of mmkd and of MMYOLO. The classes
can be pickled only inside :func:`importable`, so what reads a file cannot import them by accident.
"""

import contextlib
import math
import sys
import types

import torch
from torch import nn

# depth and width multiples
SIZES = {'n': (0.33, 0.25), 's': (0.33, 0.5), 'm': (0.67, 0.75), 'l': (1.0, 1.0), 'x': (1.33, 1.25)}
ANCHORS = [
    [10, 13, 16, 30, 33, 23],
    [30, 61, 62, 45, 59, 119],
    [116, 90, 156, 198, 373, 326],
]
BACKBONE = [
    [-1, 1, 'Conv', [64, 6, 2, 2]],
    [-1, 1, 'Conv', [128, 3, 2]],
    [-1, 3, 'C3', [128]],
    [-1, 1, 'Conv', [256, 3, 2]],
    [-1, 6, 'C3', [256]],
    [-1, 1, 'Conv', [512, 3, 2]],
    [-1, 9, 'C3', [512]],
    [-1, 1, 'Conv', [1024, 3, 2]],
    [-1, 3, 'C3', [1024]],
    [-1, 1, 'SPPF', [1024, 5]],
]
HEAD = [
    [-1, 1, 'Conv', [512, 1, 1]],
    [-1, 1, 'Upsample', []],
    [[-1, 6], 1, 'Concat', [1]],
    [-1, 3, 'C3', [512, False]],
    [-1, 1, 'Conv', [256, 1, 1]],
    [-1, 1, 'Upsample', []],
    [[-1, 4], 1, 'Concat', [1]],
    [-1, 3, 'C3', [256, False]],
    [-1, 1, 'Conv', [256, 3, 2]],
    [[-1, 14], 1, 'Concat', [1]],
    [-1, 3, 'C3', [512, False]],
    [-1, 1, 'Conv', [512, 3, 2]],
    [[-1, 10], 1, 'Concat', [1]],
    [-1, 3, 'C3', [1024, False]],
    [[17, 20, 23], 1, 'Detect', []],
]


class Conv(nn.Module):
    def __init__(self, c_in, c_out, kernel=1, stride=1, padding=None):
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, channels, shortcut):
        super().__init__()
        self.cv1 = Conv(channels, channels, 1)
        self.cv2 = Conv(channels, channels, 3)
        self.add = shortcut

    def forward(self, x):
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(nn.Module):
    def __init__(self, c_in, c_out, repeats=1, shortcut=True):
        super().__init__()
        half = c_out // 2
        self.cv1 = Conv(c_in, half)
        self.cv2 = Conv(c_in, half)
        self.cv3 = Conv(2 * half, c_out)
        self.m = nn.Sequential(*(Bottleneck(half, shortcut) for _ in range(repeats)))

    def forward(self, x):
        return self.cv3(torch.cat([self.m(self.cv1(x)), self.cv2(x)], 1))


class SPPF(nn.Module):
    def __init__(self, c_in, c_out, kernel=5):
        super().__init__()
        self.cv1 = Conv(c_in, c_in // 2)
        self.cv2 = Conv(c_in * 2, c_out)
        self.m = nn.MaxPool2d(kernel, 1, kernel // 2)

    def forward(self, x):
        maps = [self.cv1(x)]
        for _ in range(3):
            maps.append(self.m(maps[-1]))
        return self.cv2(torch.cat(maps, 1))


class Concat(nn.Module):
    def __init__(self, dim=1):
        super().__init__()
        self.d = dim

    def forward(self, maps):
        return torch.cat(maps, self.d)


class Detect(nn.Module):
    def __init__(self, num_classes, channels, anchors, strides):
        super().__init__()
        self.nc, self.no, self.nl, self.na = num_classes, num_classes + 5, len(anchors), 3
        self.stride = torch.tensor(strides, dtype=torch.float32)
        pixels = torch.tensor(anchors, dtype=torch.float32).view(self.nl, -1, 2)
        self.register_buffer('anchors', pixels / self.stride[:, None, None])
        # As torch.meshgrid(...).expand leaves them: a view larger than its storage.
        self.grid = [torch.zeros(1, 1, 4, 4, 2).expand(1, 3, 4, 4, 2) for _ in anchors]
        self.m = nn.ModuleList(nn.Conv2d(c, self.no * self.na, 1) for c in channels)

    def forward(self, maps):
        return [conv(x) for conv, x in zip(self.m, maps, strict=True)]


class Model(nn.Module):
    """The network of v6.0 and v6.1."""

    def __init__(self, size='n', num_classes=3, names=None, anchors=ANCHORS):
        super().__init__()
        depth, width = SIZES.get(size, size)
        self.yaml = {
            'nc': num_classes,
            'depth_multiple': depth,
            'width_multiple': width,
            'anchors': anchors,
            'backbone': BACKBONE,
            'head': HEAD,
        }
        channels, layers = [3], []
        for index, (source, repeats, kind, args) in enumerate(BACKBONE + HEAD):
            sources = source if isinstance(source, list) else [source]
            # channels[0] belongs to the image, so layer j's are at j + 1.
            c_in = [channels[j] if j < 0 else channels[j + 1] for j in sources]
            c_out = (
                math.ceil(args[0] * width / 8) * 8 if len(args) and kind != 'Concat' else c_in[0]
            )
            match kind:
                case 'Conv':
                    layer = Conv(c_in[0], c_out, *args[1:])
                case 'C3':
                    repeats = max(round(repeats * depth), 1)
                    layer = C3(c_in[0], c_out, repeats, *args[1:])
                case 'SPPF':
                    layer = SPPF(c_in[0], c_out, *args[1:])
                case 'Upsample':
                    layer = nn.Upsample(None, 2, 'nearest')
                case 'Concat':
                    layer, c_out = Concat(*args), sum(c_in)
                case 'Detect':
                    layer = Detect(num_classes, c_in, anchors, (8, 16, 32))
            layer.i, layer.f, layer.type = index, source, f'models.common.{kind}'
            channels.append(c_out)
            layers.append(layer)
        self.model = nn.Sequential(*layers)
        self.save = [4, 6, 10, 14, 17, 20, 23]
        self.names = names or [f'class{label}' for label in range(num_classes)]
        self.stride = torch.tensor([8.0, 16.0, 32.0])

    def forward(self, x):
        outputs = []
        for layer in self.model:
            if isinstance(layer.f, list):
                x = [x if j == -1 else outputs[j] for j in layer.f]
            x = layer(x)
            outputs.append(x)
        return x


class DetectionModel(Model):
    """The same from v6.2 on."""


MODULES = {
    'models.common': (Conv, Bottleneck, C3, SPPF, Concat),
    'models.yolo': (Model, DetectionModel, Detect),
}


@contextlib.contextmanager
def importable():
    """Lets pickle find the classes under Ultralytics' module names."""
    modules = {'models': types.ModuleType('models')}
    for name, classes in MODULES.items():
        modules[name] = types.ModuleType(name)
        for cls in classes:
            cls.__module__ = name
            setattr(modules[name], cls.__name__, cls)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def make_network(size='n', num_classes=3, seed=0, kind=DetectionModel, **kwargs):
    """A network in float16 with random weights and BN statistics, in eval."""
    torch.manual_seed(seed)
    model = kind(size, num_classes, **kwargs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            # Small variances, so that a wrong eps shows.
            module.running_var.uniform_(0.02, 0.2)
            nn.init.uniform_(module.weight, 0.2, 0.6)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.half().eval()


def save(path, model, **entries):
    """Writes a file as Ultralytics' training does."""
    content = {'epoch': -1, 'best_fitness': None, 'model': model, 'ema': None, 'updates': None}
    content |= {'optimizer': None, 'date': '2026-01-01T00:00:00'} | entries
    with importable():
        torch.save(content, path)
    return path


def raw_maps(model, image):
    """The three output maps of the weights as stored, run in float32."""
    with torch.no_grad():
        return model.float()(image)
