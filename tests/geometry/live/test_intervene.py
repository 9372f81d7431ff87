"""An edit of the stream does what it says at its block, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch

from geometry.checks import LayerError, ShapeError
from geometry.live.anatomy import blocks
from geometry.live.capture import block_outputs
from geometry.live.intervene import edited_stream, project

IDS = torch.tensor([[5, 9, 7, 11], [3, 3, 8, 2]])


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def hooks(model):
    return sum(len(block._forward_hooks) + len(block._forward_pre_hooks) for block in blocks(model))


def test_every_family_reads_the_edited_stream_and_comes_back_as_it_was(tiny_causal):
    model = tiny_causal.model
    plain = logits(model)
    shift = torch.linspace(-1, 1, 32)
    with block_outputs(model, [0, 1]) as before:
        logits(model)
        first, second = before[0].clone(), before[1].clone()
    with edited_stream(model, {0: lambda stream: stream + shift}), block_outputs(model, [0, 1]) as after:
        moved = logits(model)
    torch.testing.assert_close(after[0], first + shift)
    assert (after[1] - second).abs().max() > 1e-3
    assert (moved - plain).abs().max() > 1e-3
    assert hooks(model) == 0
    assert torch.equal(logits(model), plain)


def test_an_edit_that_changes_nothing_changes_nothing(tiny_causal):
    plain = logits(tiny_causal.model)
    with edited_stream(tiny_causal.model, {0: lambda s: s, 2: lambda s: s.double()}):
        assert torch.equal(logits(tiny_causal.model), plain)


def test_hooks_are_gone_after_an_exception(tiny_llama):
    def bad(stream):
        raise RuntimeError("bug in an edit")

    with pytest.raises(RuntimeError, match="bug in an edit"), edited_stream(tiny_llama.model, {1: bad}):
        logits(tiny_llama.model)
    assert hooks(tiny_llama.model) == 0


def test_refusals(tiny_llama):
    for layer in (3, -1):
        with (
            pytest.raises(LayerError, match=f"no layer {layer}: this model has 0 to 2"),
            edited_stream(tiny_llama.model, {0: lambda s: s, layer: lambda s: s}),
        ):
            pass
    with (
        pytest.raises(ShapeError, match=r"edit of layer 1: expected \(2, 4, 32\), got \(2, 4, 31\)"),
        edited_stream(tiny_llama.model, {1: lambda s: s[..., 1:]}),
    ):
        logits(tiny_llama.model)
    assert hooks(tiny_llama.model) == 0


def test_a_projection_is_idempotent_and_of_its_rank():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 3, generator=generator))[0]
    rows = torch.randn(50, 8, generator=generator)
    once = project(rows, basis)
    torch.testing.assert_close(project(once, basis), once, rtol=0, atol=1e-6)
    assert torch.linalg.matrix_rank(once, atol=1e-6) == 3
    assert torch.equal(project(rows, torch.eye(8)), rows.double())
