"""What a model can run on here."""

from __future__ import annotations

import time

import torch


def devices() -> list[str]:
    """Name the devices that torch can compute on, the one taken by default first.

    Returns:
        Such as ``cuda:0 (NVIDIA H100, 80 GB)`` and ``cpu (2 threads)``.
    """
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    named = [f"cuda:{i} ({card.name}, {card.total_memory / 1e9:.0f} GB)" for i, card in enumerate(cards)]
    return [*named, f"cpu ({torch.get_num_threads()} threads)"]


def reading_speed(model: torch.nn.Module, *, length: int = 256, seconds: float = 0.5) -> float:
    """Measure how fast a causal model reads on its device.

    Args:
        model: any causal language model of transformers.
        length: tokens in a row, at least 1; they are all the same, which costs what any text costs.
        seconds: time to measure for, after one row to warm up.

    Returns:
        Tokens a second, the best of the rows read.
    """
    place = next(model.parameters()).device
    row = torch.zeros((1, length), dtype=torch.long, device=place)

    def read() -> float:
        began = time.perf_counter()
        model(input_ids=row).logits[0, -1, 0].item()  # taking a number out waits for the device
        return length / (time.perf_counter() - began)

    with torch.inference_mode():
        read()
        end, best = time.perf_counter() + seconds, read()
        while time.perf_counter() < end:
            best = max(best, read())
    return best
