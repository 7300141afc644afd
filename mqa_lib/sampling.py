"""Down-sampling that pads as TensorFlow does, for weights that were trained there.

With the padding "same" there are ceil(extent / stride) windows and as few padded rows and columns as they need, the odd
one below and to the right. So the pad depends on the size of the map, which PyTorch's own layers do not offer with a
stride.

Source: `padding="same"` of Keras' DepthwiseConv2D and AveragePooling2D.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def same_pads(extents: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> list[int]:
    """Return the pads (left, right, top, bottom) of a map of `extents`, in the order that `F.pad` takes."""
    pads = []
    for extent, size, step in reversed(list(zip(extents, kernel, stride, strict=True))):
        # No floor of a negative number, which ONNX rounds towards 0, and no `max` that an exporter cannot decide.
        total = ((extent + step - 1) // step - 1) * step + size - extent
        total = total if size >= step else max(total, 0)
        pads += [total // 2, total - total // 2]
    return pads


class SameConv2d(nn.Conv2d):
    """A convolution, padded with zeros as TensorFlow pads."""

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch out rows columns"]:
        """Return the convolution of `x`, of ceil(height / stride) × ceil(width / stride) pixels."""
        pads = same_pads((x.shape[2], x.shape[3]), self.kernel_size, self.stride)  # type: ignore[arg-type]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class SameAvgPool2d(nn.AvgPool2d):
    """A mean over windows side by side, placed as TensorFlow places them; what lies outside the map does not count."""

    kernel_size: tuple[int, int]

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim rows columns"]:
        """Return the means of `x`, of ceil(height / stride) × ceil(width / stride) pixels."""
        pads = same_pads((x.shape[2], x.shape[3]), self.kernel_size, self.kernel_size)
        inside = F.pad(x.new_ones(1, 1, *x.shape[2:]), pads)
        return F.avg_pool2d(F.pad(x, pads), self.kernel_size) / F.avg_pool2d(inside, self.kernel_size)
