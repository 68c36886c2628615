"""What devices could do at most, to say what share of that a training reaches.

>>> peak_flops("NVIDIA H100 80GB HBM3"), peak_flops("TPU v5 lite"), peak_flops("cpu")
(989000000000000.0, 197000000000000.0, None)
"""

# Floating-point operations a second in half precision with sums in float32, dense: the makers' data
# sheets, by the first words that the name of the device has in it. A device of TPU v2 and v3 is a
# core, half a chip. Products in float32 cannot reach them.
_PEAKS = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "V100": 125e12,
    "T4": 65e12,
    "A100": 312e12,
    "L4": 121e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "B200": 2250e12,
}


def peak_flops(kind: str) -> float | None:
    """Returns the most operations a second of a kind of device, `None` of one that is not known."""
    words = f" {kind.replace('-', ' ')} "
    return next((peak for name, peak in _PEAKS.items() if f" {name} " in words), None)
