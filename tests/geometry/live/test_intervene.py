"""An edit of the stream does what it says at its block, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch

from geometry.checks import LayerError, ShapeError
from geometry.live.anatomy import blocks
from geometry.live.capture import block_outputs
from geometry.live.intervene import edited_stream, project, resumed_after

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


def test_a_model_entered_in_the_middle_goes_on_as_if_it_had_run(tiny_causal):
    model = tiny_causal.model
    plain = logits(model)
    for layer in range(3):
        with block_outputs(model, [layer]) as kept:
            logits(model)
            stream = kept[layer]
        with resumed_after(model, layer, stream):
            torch.testing.assert_close(logits(model), plain, rtol=0, atol=1e-6)
        with resumed_after(model, layer, stream + 1), edited_stream(model, {layer: lambda s: s - 1}):
            torch.testing.assert_close(logits(model), plain, rtol=0, atol=1e-4)
        with resumed_after(model, layer, stream + torch.linspace(-1, 1, 32)):
            assert (logits(model) - plain).abs().max() > 1e-3
    with pytest.raises(RuntimeError, match="bug"), resumed_after(model, 2, stream):
        raise RuntimeError("bug")
    assert torch.equal(logits(model), plain)


def test_blocks_that_answer_with_a_tuple_are_skipped_in_their_form(tiny_llama):
    stack = blocks(tiny_llama.model)
    read = []
    tiny_llama.model.model.norm.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    stream = torch.ones(2, 4, 32)
    with resumed_after(tiny_llama.model, 1, (stream, "more")):
        assert stack[0](stream) == (stream, "more")
        assert stack[1](None) == (stream, "more")
    with resumed_after(tiny_llama.model, 2, stream):
        logits(tiny_llama.model)
    assert torch.equal(read[0], stream)
    with (
        pytest.raises(LayerError, match="no layer 3: this model has 0 to 2"),
        resumed_after(tiny_llama.model, 3, stream),
    ):
        pass


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
