"""What a layer's cost is made of: steps, their sum, and the counting of each."""

from dataclasses import dataclass, replace

from mqa_lib import checks

KINDS = ("projections", "down-sampling", "scores", "weighted values")


@dataclass(frozen=True)
class Step:
    """One operation of a layer.

    Args:
        name: What it is called in the formula.
        kind: The group it is counted in, one of `KINDS`; or, without MACs, "resampling" for pooled queries.
        params: Learnt numbers that it owns.
        macs: Multiply-accumulates for one picture.
        activation_bytes: What it reads and writes besides parameters, once each.
        score_bytes: What it would write or read of the score matrix if no fused kernel kept it in its cache.
    """

    name: str
    kind: str
    params: int = 0
    macs: int = 0
    activation_bytes: int = 0
    score_bytes: int = 0


@dataclass(frozen=True)
class Cost:
    """The price of one layer, or of several added together, for one picture.

    Args:
        steps: The operations in the order in which they run.
        score_bytes: The score matrices of all heads, if they are written to memory.
        key_value_bytes: The keys and values that the heads read.
        bytes_per_number: 4 for float32, 2 for half precision, 1 for int8.
    """

    steps: tuple[Step, ...]
    score_bytes: int
    key_value_bytes: int
    bytes_per_number: int = 4

    @property
    def params(self) -> int:
        """Learnt numbers; equal to the count of the module's parameters."""
        return sum(step.params for step in self.steps)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all steps."""
        return sum(step.macs for step in self.steps)

    @property
    def projection_macs(self) -> int:
        """MACs of the 1x1 convolutions that make queries, keys, values and the output."""
        return self.macs_of("projections")

    @property
    def reduction_macs(self) -> int:
        """MACs of the depthwise convolutions that down-sample keys and values."""
        return self.macs_of("down-sampling")

    @property
    def score_macs(self) -> int:
        """MACs of every query times every key."""
        return self.macs_of("scores")

    @property
    def value_macs(self) -> int:
        """MACs of every weight times every value."""
        return self.macs_of("weighted values")

    @property
    def weight_bytes(self) -> int:
        """Bytes of the parameters; BatchNorm's running statistics fold away at inference and are left out."""
        return self.params * self.bytes_per_number

    @property
    def activation_bytes(self) -> int:
        """Bytes of maps and tokens that the steps read and write while a fused kernel keeps the scores."""
        return sum(step.activation_bytes for step in self.steps)

    @property
    def macs_per_byte(self) -> float:
        """Arithmetic intensity: MACs for each byte of parameters and activations that moves."""
        return self.macs / self.bytes_moved()

    def bytes_moved(self, scores_in_memory: bool = False) -> int:
        """Return the bytes of parameters and activations that move, and of the scores if no kernel keeps them."""
        scores = sum(step.score_bytes for step in self.steps) if scores_in_memory else 0
        return self.weight_bytes + self.activation_bytes + scores

    def macs_of(self, kind: str) -> int:
        """Return the MACs of one kind of step.

        Raises:
            ValueError: `kind` is not one of `KINDS`.
        """
        checks.one_of("kind", kind, KINDS)
        return sum(step.macs for step in self.steps if step.kind == kind)

    def by_kind(self) -> dict[str, int]:
        """Return the MACs of every kind of step, in the order of `KINDS`."""
        return {kind: self.macs_of(kind) for kind in KINDS}

    def for_batch(self, pictures: int) -> "Cost":
        """Return the cost of several pictures at once: all but the parameters, which are read once, as many times.

        Raises:
            ValueError: `pictures` is smaller than 1.
        """
        checks.positive("pictures", pictures)
        steps = tuple(
            replace(
                step,
                macs=step.macs * pictures,
                activation_bytes=step.activation_bytes * pictures,
                score_bytes=step.score_bytes * pictures,
            )
            for step in self.steps
        )
        scores, kept = self.score_bytes * pictures, self.key_value_bytes * pictures
        return replace(self, steps=steps, score_bytes=scores, key_value_bytes=kept)

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of running both, one after the other.

        Raises:
            ValueError: The two were counted with different `bytes_per_number`.
        """
        if self.bytes_per_number != other.bytes_per_number:
            way_out = f"Count both with {self.bytes_per_number} bytes."
            rule = f"must be equal in costs that are added (other: {other.bytes_per_number})"
            raise checks.refuse("bytes_per_number", self.bytes_per_number, rule, way_out)
        return Cost(
            self.steps + other.steps,
            self.score_bytes + other.score_bytes,
            self.key_value_bytes + other.key_value_bytes,
            self.bytes_per_number,
        )


@dataclass(frozen=True)
class Counter:
    """Makes the steps of a layer over a map of `pixels` pixels and `dim` channels."""

    dim: int
    pixels: int
    size: int  # bytes per number

    def __post_init__(self) -> None:
        checks.positive("dim", self.dim, "Use the number of channels of the map.")
        checks.positive("bytes_per_number", self.size, "Use 4 for float32.")

    def project(self, name: str, tokens: int, dim_in: int, dim_out: int) -> Step:
        """Return a 1x1 convolution."""
        weights = dim_in * checks.positive("dim_out", dim_out)
        return Step(name, "projections", weights, tokens * weights, tokens * (dim_in + dim_out) * self.size)

    def reduce(self, name: str, tokens: int, kernel: int) -> Step:
        """Return a depthwise convolution of `kernel` numbers a channel, from the map to `tokens`."""
        # The norm's weight and bias belong here: they fold into the convolution.
        moved = (self.pixels + tokens) * self.dim * self.size
        return Step(name, "down-sampling", (kernel + 2) * self.dim, tokens * kernel * self.dim, moved)

    def resample(self, name: str, tokens: int, dim: int, params: int) -> Step:
        """Return a pooling of the map to `tokens`, or an enlarging of `tokens` to the map."""
        return Step(name, "resampling", params, 0, (self.pixels + tokens) * dim * self.size)

    def attend(
        self, queries: int, keys: int, heads: int, kv_heads: int, key_dim: int, value_dim: int
    ) -> list[Step]:
        """Return the two matrix products of attention: scores, and values weighted with them."""
        pairs = heads * queries * keys
        read, mixed = queries * heads * key_dim, queries * heads * value_dim
        key_numbers, value_numbers = keys * kv_heads * key_dim, keys * kv_heads * value_dim
        return [
            Step("scores", "scores", 0, pairs * key_dim, (read + key_numbers) * self.size, pairs * self.size),
            Step(
                "weighted values",
                "weighted values",
                0,
                pairs * value_dim,
                (mixed + value_numbers) * self.size,
                pairs * self.size,
            ),
        ]
