"""RT-DETR's encoder layer with Mobile MQA in the place of its multi-head attention, and everything else as it was."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from ultralytics.nn.modules.transformer import AIFI, TransformerEncoderLayer

from mqa_lib.attention import MobileMQA


class EncoderMQA(MobileMQA):
    """Mobile MQA that reads values from another map than its queries and keys come from.

    An encoder in the manner of DETR adds the positions to queries and keys alone. Arguments as `MobileMQA`'s.
    """

    def forward(
        self,
        x: Float[Tensor, "batch {self.dim} height width"],
        values_from: Float[Tensor, "batch {self.dim} height width"] | None = None,
    ) -> Float[Tensor, "batch {self.dim_out} height width"]:
        """Return what every position of `x` reads from `values_from`, or from `x` itself if that is not given."""
        if values_from is None:
            return super().forward(x)
        # As in the parent, heads are just more queries; written without `.mT`, which one of torch's exporters lacks.
        q = self.query(x).permute(0, 2, 3, 1).reshape(len(x), 1, -1, self.key_dim)
        k, v = (
            part.flatten(2).transpose(1, 2).unsqueeze(1) for part in (self.key(x), self.value(values_from))
        )
        read = F.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop if self.training else 0.0)
        read = read.reshape(len(x), *x.shape[-2:], self.num_heads * self.value_dim).permute(0, 3, 1, 2)
        return self.output(read)


class AIFI_MQA(TransformerEncoderLayer):
    """An AIFI whose heads share one key/value head: same width, positions, norms and feed-forward network.

    In a model file its row reads like AIFI's, `[-1, 1, AIFI_MQA, [1024, 8]]`: ultralytics finds the channels. As in
    AIFI the positions are added to queries and keys and not to values, and the norms come after the sums. It is not a
    kind of `AIFI`, so that whoever looks for attention finds the `MobileMQA` within.

    Args:
        c1: Channels of the map, a multiple of 4 and of `num_heads`.
        cm: Channels within the feed-forward network.
        num_heads: Query heads; each has `c1 // num_heads` channels, as AIFI's.
        kv_stride: Down-sampling of keys and values; AIFI has none.
        dropout: Share of attention weights and of signals left out while training.

    Raises:
        ValueError: `num_heads` does not divide `c1`, or `kv_stride` is smaller than 1.
    """

    def __init__(
        self, c1: int, cm: int = 2048, num_heads: int = 8, kv_stride: int = 1, dropout: float = 0.0
    ) -> None:
        attention = EncoderMQA(c1, num_heads=num_heads, kv_stride=kv_stride, attn_drop=dropout)
        super().__init__(c1, cm, num_heads, dropout)
        self.ma = attention

    def forward(self, x: Float[Tensor, "batch c1 height width"]) -> Float[Tensor, "batch c1 height width"]:
        """Return the map after attention and feed-forward network, each added to what went in and normalised."""
        channels, height, width = x.shape[1:]
        positions = AIFI.build_2d_sincos_position_embedding(width, height, channels, like=x).to(x.dtype)
        read = self.ma(x + positions.transpose(1, 2).unflatten(-1, (height, width)), x)
        tokens = self.norm1((x + self.dropout1(read)).flatten(2).transpose(1, 2))
        deeper = self.fc2(self.dropout(self.act(self.fc1(tokens))))
        tokens = self.norm2(tokens + self.dropout2(deeper))
        return tokens.transpose(1, 2).unflatten(-1, (height, width)).contiguous()
