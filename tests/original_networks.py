"""Networks with the keys and the arithmetic of the original code, as an oracle for its checkpoints: plain layers, whose
sub-networks slice them by hand. `width` is a share of the channels; `skipped` are numbers of blocks."""
import torch
from torch import nn
from torch.nn import functional as F


def kept(channels: int, width: float) -> int:
    """The original's rounding, half up; what loses over a tenth is rounded up instead (matters below 5 channels)."""
    exact = channels * width
    rounded = max(1, int(exact + 0.5))
    return rounded + 1 if rounded < 0.9 * exact else rounded


def kept_inside(channels: int, width: float) -> int:
    """The same for the inner channels of a ResNet's bottleneck, counted from its output."""
    return int(kept(channels * 4, width) * 0.25)


def conv3x3(inp: int, out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inp, out, 3, stride, 1, bias=False)


def conv1x1(inp: int, out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inp, out, 1, stride, bias=False)


def convolve(conv: nn.Conv2d, x: torch.Tensor, out: int) -> torch.Tensor:
    return F.conv2d(x, conv.weight[:out, :x.shape[1]], None, conv.stride, conv.padding)


def normalise(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """By the batch's statistics in training; else by the kept part of the running ones. Changes no statistics."""
    c = x.shape[1]
    statistics = (None, None) if norm.training else (norm.running_mean[:c], norm.running_var[:c])
    return F.batch_norm(x, *statistics, norm.weight[:c], norm.bias[:c], norm.training, 0., norm.eps)


def classify(fc: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    x = x.mean((2, 3))
    return F.linear(x, fc.weight[:, :x.shape[1]], fc.bias)


class ResNetBlock(nn.Module):
    def __init__(self, inp: int, mid: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            conv1x1(inp, mid), nn.BatchNorm2d(mid), nn.ReLU(),
            conv3x3(mid, mid, stride), nn.BatchNorm2d(mid), nn.ReLU(),
            conv1x1(mid, 4 * mid), nn.BatchNorm2d(4 * mid))
        if stride != 1 or inp != 4 * mid:
            self.shortcut = nn.Sequential(conv1x1(inp, 4 * mid, stride), nn.BatchNorm2d(4 * mid))

    def forward(self, x, width):
        mid, out = self.body[0].out_channels, kept(self.body[6].out_channels, width)
        y = normalise(self.body[1], convolve(self.body[0], x, kept_inside(mid, width))).relu()
        y = normalise(self.body[4], convolve(self.body[3], y, kept_inside(mid, width))).relu()
        y = normalise(self.body[7], convolve(self.body[6], y, out))
        if 'shortcut' in self._modules:
            x = normalise(self.shortcut[1], convolve(self.shortcut[0], x, out))
        return (x + y).relu()


class ResNet(nn.Module):
    def __init__(self, stages: tuple[int, ...], classes: int):
        super().__init__()
        blocks, inp = [], 64
        for stage, count in enumerate(stages):
            for index in range(count):
                blocks.append(ResNetBlock(inp, 64 * 2 ** stage, 2 if stage and not index else 1))
                inp = 256 * 2 ** stage
        stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        self.features = nn.Sequential(nn.Sequential(*stem), *blocks, nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Linear(inp, classes))

    def forward(self, x, width=1.0):
        conv, norm, _, pool = self.features[0]
        x = pool(normalise(norm, convolve(conv, x, kept_inside(64, width))).relu())
        for block in self.features[1:-1]:
            x = block(x, width)
        return classify(self.classifier[0], x)


class WideBlock(nn.Module):
    def __init__(self, inp: int, out: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inp), conv3x3(inp, out, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(out), conv3x3(out, out)
        self.convShortcut = conv1x1(inp, out, stride) if inp != out else None

    def forward(self, x, width):
        out = kept(self.conv2.out_channels, width)
        active = normalise(self.bn1, x).relu()
        y = normalise(self.bn2, convolve(self.conv1, active, out)).relu()
        y = convolve(self.conv2, y, out)
        return y + (x if self.convShortcut is None else convolve(self.convShortcut, active, out))


class WideResNet(nn.Module):
    def __init__(self, depth: int, factor: int, classes: int):
        super().__init__()
        self.conv1, inp = conv3x3(3, 16), 16
        for stage in (1, 2, 3):
            out = 8 * 2 ** stage * factor
            blocks = [WideBlock(out if index else inp, out, 2 if stage > 1 and not index else 1)
                      for index in range((depth - 4) // 6)]
            inp = out
            self.add_module(f'block{stage}', nn.ModuleDict({'layer': nn.Sequential(*blocks)}))
        self.bn1, self.fc = nn.BatchNorm2d(inp), nn.Linear(inp, classes)

    def forward(self, x, width=1.0):
        x = convolve(self.conv1, x, kept(16, width))
        for stage in (self.block1, self.block2, self.block3):
            for block in stage['layer']:
                x = block(x, width)
        return classify(self.fc, normalise(self.bn1, x).relu())


class PyramidBlock(nn.Module):
    def __init__(self, inp: int, channels: int, stride: int, bottleneck: bool):
        super().__init__()
        self.stride = stride
        out = channels * 4 if bottleneck else channels
        if bottleneck:
            convs = conv1x1(inp, channels), conv3x3(channels, channels, stride), conv1x1(channels, out)
        else:
            convs = conv3x3(inp, channels, stride), conv3x3(channels, channels)
        for number, conv in enumerate(convs, 1):
            self.add_module(f'bn{number}', nn.BatchNorm2d(conv.in_channels))
            self.add_module(f'conv{number}', conv)
        self.add_module(f'bn{len(convs) + 1}', nn.BatchNorm2d(out))
        self.convs = range(1, len(convs) + 1)

    def forward(self, x, width):
        y = x
        for number in self.convs:
            y = normalise(getattr(self, f'bn{number}'), y)
            conv = getattr(self, f'conv{number}')
            y = convolve(conv, y.relu() if number > 1 else y, kept(conv.out_channels, width))
        y = normalise(getattr(self, f'bn{self.convs[-1] + 1}'), y)
        if self.stride == 2:
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True)
        return y + torch.cat([x, x.new_zeros(len(x), y.shape[1] - x.shape[1], *x.shape[2:])], 1)


class PyramidNet(nn.Module):
    def __init__(self, depth: int, alpha: int, bottleneck: bool, classes: int):
        super().__init__()
        self.conv1, self.bn1, inp, width = conv3x3(3, 16), nn.BatchNorm2d(16), 16, 16
        count = (depth - 2) // (9 if bottleneck else 6)
        step = alpha / (3 * count * 1.0)
        for stage in (1, 2, 3):
            blocks = []
            for index in range(count):
                width = width + step
                channels = round(width)
                blocks.append(PyramidBlock(inp, channels, 2 if stage > 1 and not index else 1, bottleneck))
                inp = channels * 4 if bottleneck else channels
            self.add_module(f'layer{stage}', nn.Sequential(*blocks))
        self.bn_final, self.fc = nn.BatchNorm2d(inp), nn.Linear(inp, classes)

    def forward(self, x, width=1.0):
        x = normalise(self.bn1, convolve(self.conv1, x, kept(16, width)))
        for stage in (self.layer1, self.layer2, self.layer3):
            for block in stage:
                x = block(x, width)
        return classify(self.fc, normalise(self.bn_final, x).relu())


class CifarBlock(nn.Module):
    def __init__(self, inp: int, out: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(inp, out, stride), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = conv3x3(out, out), nn.BatchNorm2d(out)
        self.downsample = nn.Sequential(conv1x1(inp, out, stride), nn.BatchNorm2d(out)) if inp != out else None

    def forward(self, x, factor):
        shortcut = x
        if self.downsample is not None:
            shortcut = normalise(self.downsample[1], self.downsample[0](x))
        if factor == 0:
            return shortcut.relu()
        residual = normalise(self.bn1, self.conv1(x)).relu()
        return (factor * normalise(self.bn2, self.conv2(residual)) + shortcut).relu()


class CifarResNet(nn.Module):
    def __init__(self, depth: int, classes: int):
        super().__init__()
        self.conv1, self.bn1, inp = conv3x3(3, 16), nn.BatchNorm2d(16), 16
        for stage in (1, 2, 3):
            out = 8 * 2 ** stage
            self.add_module(f'layer{stage}', nn.Sequential(*(
                CifarBlock(out if index else inp, out, 2 if stage > 1 and not index else 1)
                for index in range((depth - 2) // 6))))
            inp = out
        self.fc = nn.Linear(64, classes)

    def forward(self, x, skipped=(), survival=1.0):
        """`survival` of the last block, linear from 1 at the first, scales the branches."""
        x = normalise(self.bn1, self.conv1(x)).relu()
        blocks = [*self.layer1, *self.layer2, *self.layer3]
        for index, block in enumerate(blocks):
            x = block(x, 0 if index in skipped else 1 - (1 - survival) * index / (len(blocks) - 1))
        return classify(self.fc, x)
