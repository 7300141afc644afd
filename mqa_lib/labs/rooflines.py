"""The roofline: which of three layers waits for arithmetic and which for memory, on a machine of one's choice."""

from dataclasses import replace

from mqa_lib import bench, cost, plots
from mqa_lib.cost import Cost, Device
from mqa_lib.labs import base

HERE = "this machine"
_HALF = 2  # bytes per number, as detectors usually run on a GPU
_here: list[Device] = []


def here() -> Device:
    """Return this machine as a device, measured once: a matrix product and a copy, in float32."""
    if not _here:
        peak, bandwidth = bench.rates(repeats=5)
        source = "measured just now with a matrix product and a copy, in float32"
        _here.append(Device(HERE, source, {4: peak}, bandwidth))
    return _here[0]


class RooflineLab(base.Lab):
    """Multi-head, multi-query and Mobile MQA as points on a machine's roofline.

    Args:
        device: A name in `cost.DEVICES`, or `HERE`.
        size: Rows and columns of the map.
        dim: Channels of the map.
        num_heads: Query heads.
        key_dim: Channels of each head.
        kv_stride: Down-sampling of keys and values in Mobile MQA.
        batch: Pictures at once.
        number_format: Bytes per number, one that is known for the device; float16 if not given, or its widest.
        scores_in_memory: Whether the scores are written and read, as without a fused kernel.
    """

    def __init__(
        self,
        device: str = "NVIDIA T4",
        size: int = 40,
        dim: int = 1024,
        num_heads: int = 4,
        key_dim: int = 64,
        kv_stride: int = 2,
        batch: int = 1,
        number_format: int | None = None,
        scores_in_memory: bool = False,
    ) -> None:
        self.device = base.dropdown("machine", [*cost.DEVICES, HERE], device)
        formats = self._formats()
        usual = _HALF if _HALF in dict(formats).values() else formats[0][1]
        wanted = usual if number_format is None else number_format
        self.number_format = base.dropdown("numbers", formats, wanted)
        self.sliders = {
            "size": base.slider("map side", (4, 8, 10, 16, 20, 32, 40, 64, 80), size),
            "dim": base.slider("channels", (64, 128, 160, 256, 512, 1024, 2048), dim),
            "num_heads": base.slider("heads", (1, 2, 4, 8, 16), num_heads),
            "key_dim": base.slider("key_dim", (16, 32, 48, 64, 128), key_dim),
            "kv_stride": base.slider("kv_stride", (1, 2, 3, 4), kv_stride),
            "batch": base.slider("pictures at once", (1, 2, 4, 8, 16, 64), batch),
        }
        self.scores_in_memory = base.checkbox("scores go through memory (no fused kernel)", scores_in_memory)
        controls = [self.device, self.number_format, *self.sliders.values(), self.scores_in_memory]
        super().__init__(controls)
        self.device.unobserve(self.redraw, names="value")
        self.device.observe(self._other_device, names="value")

    @property
    def machine(self) -> Device:
        """The chosen device."""
        return here() if self.device.value == HERE else cost.DEVICES[self.device.value]

    @property
    def costs(self) -> dict[str, Cost]:
        """The three layers' costs for what the controls say, for the whole batch."""
        chosen = {name: slider.value for name, slider in self.sliders.items()}
        batch, size = chosen.pop("batch"), chosen.pop("size")
        layers = cost.side_by_side(
            height=size, width=size, bytes_per_number=self.number_format.value, **chosen
        )
        return {name: self._as_run(each).for_batch(batch) for name, each in layers.items()}

    @property
    def intensities(self) -> dict[str, float]:
        """MACs per byte of each layer."""
        return {name: each.macs_per_byte for name, each in self.costs.items()}

    @property
    def ridge(self) -> float:
        """The ridge point of the chosen device and number format."""
        return self.machine.ridge(self.number_format.value)

    def seconds(self) -> dict[str, float]:
        """Return the roofline's time of each layer, step by step; without known rates in units of one byte's time."""
        machine, size = self.machine, self.number_format.value
        peak, bandwidth = (
            (machine.peak_macs[size], machine.bandwidth)
            if machine.peak_macs and machine.bandwidth
            else (self.ridge, 1.0)
        )
        return {name: cost.seconds(each, peak, bandwidth) for name, each in self.costs.items()}

    def draw(self) -> tuple[plots.Figure, str]:
        """Return the roofline and its words."""
        size = self.number_format.value
        peak = (self.machine.peak_macs or {}).get(size)
        steps = {
            name: {at.name: _intensity(each, at) for at in each.steps} for name, each in self.costs.items()
        }
        title = f"{self.machine.name}, {cost.FORMATS[size]}"
        return plots.roof(self.intensities, steps, self.ridge, title, peak)

    def say(self) -> str:
        """Return which layer waits for what, and what sharing and down-sampling change."""
        bound = {name: self._bound(at) for name, at in self.intensities.items()}
        waits = "; ".join(f"{name} is {bound[name]} ({at:.1f})" for name, at in self.intensities.items())
        took, moved = self.seconds(), {name: each.bytes_moved() for name, each in self.costs.items()}
        first, shared, reduced = took
        macs = {name: each.macs for name, each in self.costs.items()}

        def step(what: str, before: str, after: str) -> str:
            return (
                f"{what} changes MACs by {macs[after] / macs[before] - 1:+.0%}, bytes by"
                f" {moved[after] / moved[before] - 1:+.0%}, and the roofline's time by"
                f" {took[after] / took[before] - 1:+.0%}"
            )

        return (
            f"Ridge point {self.ridge:.1f}: {waits}. {step('Sharing', first, shared)};"
            f" {step('down-sampling', shared, reduced)}."
        )

    def rows(self) -> str:
        """Return the numbers of the three layers."""
        took, absolute = self.seconds(), self.machine.peak_macs is not None
        longest = max(took.values())
        titles = ("layer", "MACs", "bytes moved", "MACs per byte", "bound by", "time of the roofline")
        lines = [
            (
                name,
                cost.in_thousands(each.macs),
                cost.in_bytes(each.bytes_moved()),
                f"{each.macs_per_byte:.1f}",
                self._bound(each.macs_per_byte).removesuffix("-bound"),
                f"{took[name] * 1e6:.1f} µs" if absolute else f"{took[name] / longest:.0%} of the longest",
            )
            for name, each in self.costs.items()
        ]
        caption = "Time is summed over the steps, each bound by its own."
        return base.html_table(
            titles, lines, f"{caption} Rates of {self.machine.name}: {self.machine.source}."
        )

    def _as_run(self, layer: Cost) -> Cost:
        """Return the cost with the scores' traffic as part of the activations, if they go through memory."""
        if not self.scores_in_memory.value:
            return layer
        steps = tuple(
            replace(step, activation_bytes=step.activation_bytes + step.score_bytes) for step in layer.steps
        )
        return replace(layer, steps=steps)

    def _bound(self, intensity: float) -> str:
        return "memory-bound" if intensity < self.ridge else "compute-bound"

    def _formats(self) -> list[tuple[str, int]]:
        return [(cost.FORMATS[each], each) for each in self.machine.formats]

    def _other_device(self, _change: object) -> None:
        formats, before = self._formats(), self.number_format.value
        self.number_format.unobserve(self.redraw, names="value")
        self.number_format.options = formats
        self.number_format.value = before if before in dict(formats).values() else formats[0][1]
        self.number_format.observe(self.redraw, names="value")
        self.redraw()


roofline = RooflineLab  # as a cell asks for it: the lab, ready to be its last line


def _intensity(layer: Cost, step: cost.Step) -> float:
    moved = step.params * layer.bytes_per_number + step.activation_bytes
    return step.macs / moved if moved else 0.0
