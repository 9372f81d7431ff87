"""Where a model keeps its blocks and its last norm, found by structure instead of by name.

Families call the same thing ``model.layers``, ``transformer.h``, ``gpt_neox.layers`` or
``bert.encoder.layer``; wrappers such as PEFT's put more names in front. What they share is a list of
``num_hidden_layers`` blocks, and that is what is looked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from geometry.checks import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside a PEFT wrapper, or the model itself.

    Args:
        model: a transformers model, or a ``PeftModel`` around one; an adapter stays on it.

    Returns:
        The object whose ``config`` and ``forward`` are those of the architecture; not a copy.
    """
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _block_list(model: nn.Module) -> tuple[str, nn.ModuleList]:
    model = unwrapped(model)
    config = model.config.get_text_config(decoder=True)
    count = getattr(config, "num_hidden_layers", None)
    found = [
        (name, module)
        for name, module in model.named_modules()
        # a vision tower beside the language model may happen to be as deep
        if isinstance(module, nn.ModuleList) and len(module) == count and "vision" not in name
    ]
    if not found:
        raise ModelError(
            f"{type(model).__name__}: no list of {count} blocks in it; models that share one block "
            "between layers, or that have none, cannot be measured by layer"
        )
    # lists of experts or of heads lie inside a block, hence deeper
    return min(found, key=lambda item: item[0].count("."))


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks, first to last.

    Args:
        model: a causal language model or encoder of transformers, also inside a ``PeftModel``.

    Returns:
        L modules; module l maps the residual stream before block l to the one after it.

    Raises:
        ModelError: the model keeps no such list (ALBERT, for example, has one block for all layers).

    Examples:
        >>> from transformers import LlamaConfig, LlamaModel
        >>> model = LlamaModel(LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8,
        ...                                num_hidden_layers=3, num_attention_heads=2))
        >>> [type(block).__name__ for block in blocks(model)]
        ['LlamaDecoderLayer', 'LlamaDecoderLayer', 'LlamaDecoderLayer']
    """
    return list(_block_list(model)[1])


def final_norm(model: nn.Module) -> nn.Module | None:
    """The norm between the last block and the unembedding.

    Args:
        model: as for :func:`blocks`.

    Returns:
        The module, or None for models whose blocks end in a norm of their own (BERT).

    Raises:
        ModelError: the model keeps no list of blocks.

    Examples:
        >>> from transformers import LlamaConfig, LlamaModel
        >>> model = LlamaModel(LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8,
        ...                                num_hidden_layers=3, num_attention_heads=2))
        >>> final_norm(model) is model.norm
        True
    """
    name, _ = _block_list(model)
    parent = unwrapped(model).get_submodule(name.rpartition(".")[0])
    norms = [
        child
        for child_name, child in parent.named_children()
        # BLOOM keeps a norm of the embeddings beside the blocks
        if "norm" in type(child).__name__.lower() and "emb" not in child_name
    ]
    return norms[-1] if norms else None


def first_position(model: nn.Module) -> int:
    """The position number that the model gives to the first token of a text.

    Args:
        model: as for :func:`blocks`.

    Returns:
        0, except where padding has a place in the table of positions (RoBERTa and its relatives): there
        the first token comes right after it.

    Examples:
        >>> from transformers import RobertaConfig, RobertaModel
        >>> sizes = dict(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        ...              num_attention_heads=2, max_position_embeddings=10)
        >>> first_position(RobertaModel(RobertaConfig(pad_token_id=1, **sizes)))
        2
    """
    for name, module in unwrapped(model).named_modules():
        is_table = isinstance(module, nn.Embedding) and name.endswith("position_embeddings")
        if is_table and module.padding_idx is not None:
            return module.padding_idx + 1
    return 0
