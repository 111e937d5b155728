"""Trains the digits network with PyTorch and writes ``digits.onnx`` next to this file.

    python -m examples.digits.train

An optional extra: nothing else in the project needs PyTorch. The recipe (epochs, augmentation, decay) was settled on a part of the
training images (``--validate``); the held-out quarter is evaluated once, after the file has been written.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn
from torch.nn import functional

from examples.digits import data, export

SEED, EPOCHS, BATCH, RATE, DECAY = 1, 120, 64, 4e-3, 2e-2
TARGET = Path(__file__).with_name("digits.onnx")


class Unit(nn.Module):
    """Convolution and batch norm; no activation."""

    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.norm(self.conv(x))

    def folded(self):
        """(weight, bias) as float32 arrays, batch norm folded in."""
        gain = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        weight = self.conv.weight * gain[:, None, None, None]
        return weight.detach().numpy(), (self.norm.bias - self.norm.running_mean * gain).detach().numpy()


class Digits(nn.Module):
    """8x8x1 -> 10: a stem, one residual block at 16 channels, one at 32 with stride 2, max pool, global average, classifier."""

    def __init__(self):
        super().__init__()
        self.stem = Unit(1, 16, 3)
        self.block1_a, self.block1_b = Unit(16, 16, 3), Unit(16, 16, 3)
        self.block2_a, self.block2_b = Unit(16, 32, 3, 2), Unit(32, 32, 3)
        self.shortcut = Unit(16, 32, 1, 2)
        self.classifier = nn.Linear(32, 10)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        x = functional.relu(self.block1_b(functional.relu(self.block1_a(x))) + x)
        x = functional.relu(self.block2_b(functional.relu(self.block2_a(x))) + self.shortcut(x))
        return self.classifier(functional.max_pool2d(x, 2).mean((2, 3)))


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Small random rotation, zoom and shift of each image."""
    def uniform(low, high):
        return torch.rand(len(x), generator=generator) * (high - low) + low

    angle, zoom_x, zoom_y = uniform(-0.17, 0.17), uniform(0.9, 1.1), uniform(0.9, 1.1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack([cos * zoom_x, -sin, uniform(-0.2, 0.2), sin, cos * zoom_y, uniform(-0.2, 0.2)], 1).reshape(-1, 2, 3)
    return functional.grid_sample(x, functional.affine_grid(matrix, x.shape, align_corners=False), align_corners=False)


def fit(images: torch.Tensor, labels: torch.Tensor, epochs: int) -> Digits:
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.15)
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(images), generator=generator)
        for at in order[: len(images) // BATCH * BATCH].reshape(-1, BATCH):
            loss = functional.cross_entropy(model(augment(images[at], generator)), labels[at], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: Digits, split: data.Split) -> float:
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2)
    return float((model(images).argmax(1).numpy() == split.labels).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--validate", action="store_true", help="train on two thirds of the training images and report on the rest")
    options = parser.parse_args()
    torch.set_num_threads(1)
    split = data.load()
    train = split["train"]
    if options.validate:
        held = np.arange(len(train.labels)) % 3 == 0
        train, rest = data.Split(train.images[~held], train.labels[~held]), data.Split(train.images[held], train.labels[held])
    model = fit(torch.from_numpy(train.images).permute(0, 3, 1, 2), torch.from_numpy(train.labels), options.epochs)
    if options.validate:
        print(f"validation accuracy {accuracy(model, rest):.4f}")
        return
    units = {name: unit.folded() for name, unit in model.named_children() if isinstance(unit, Unit)}
    units["classifier"] = (model.classifier.weight.detach().numpy(), model.classifier.bias.detach().numpy())
    export.write(TARGET, units)
    images = np.moveaxis(split["test"].images, 3, 1)
    seen = onnxruntime.InferenceSession(TARGET, providers=["CPUExecutionProvider"]).run(None, {"image": images})[0]
    np.testing.assert_allclose(seen, model(torch.from_numpy(images)).detach().numpy(), atol=1e-4)
    print(f"wrote {TARGET.name}, {TARGET.stat().st_size} bytes; held-out accuracy {accuracy(model, split['test']):.4f}")


if __name__ == "__main__":
    main()
