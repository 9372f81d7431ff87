"""A small Llama-type model in training: its weights, its optimisers, and the step that changes them."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from finetune.causal import seeded
from finetune.folders import replace_file
from finetune.prompts import IGNORED
from geometry.checks import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

    from finetune.pretrain_recipe import PretrainRecipe


def build(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """Make the untrained model: Llama with tied embeddings and rotary positions.

    Args:
        recipe: its shape and the seed of its weights.
        tokenizer: of at most ``recipe.vocabulary`` tokens; the model has as many embeddings.

    Returns:
        The model in float32 on the CPU. The global generators are given back as they were.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # At these lengths plain matrix products beat the fused kernel on a CPU (measured: +13 %).
        attn_implementation="eager",
    )
    with seeded(recipe.seed):
        return LlamaForCausalLM(config)


class Learner:
    """A model in training: float32 masters, a working copy in bfloat16, and the optimisers.

    The forward and backward pass run in bfloat16; gradients are copied to the float32 masters, where
    small updates are not rounded away.

    Args:
        recipe: shape, seed, optimiser and learning rates.
        tokenizer: its length is the number of embeddings.
        device: such as ``cpu`` or ``cuda``.

    Attributes:
        recipe: as given.
        model: the working copy.
        masters: name of each parameter and its float32 value.
    """

    def __init__(self, recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerBase, device: str) -> None:
        self.recipe = recipe
        self.model = build(recipe, tokenizer).to(device)
        self.masters = {n: p.detach().clone().float() for n, p in self.model.named_parameters()}
        # This rounds the rotary frequencies too (by up to 0.4 %), which a saved model has in full precision;
        # the shipped model's loss is the same with either to 1e-4 nats, also at 1,024 tokens.
        self.model.to(torch.bfloat16)
        self._optimisers = _optimisers(recipe, self.masters)
        self._body: Callable = self.model.model

    def compile(self) -> None:
        """Fuse the blocks with torch.compile (measured on 2 CPU cores: 1.28 times the tokens per second).

        Where that fails, now or at a later step, training goes on without it after a warning.
        """
        # RuntimeError: a Python or a platform that torch.compile does not know
        with contextlib.suppress(RuntimeError):
            self._body = torch.compile(self.model.model, dynamic=False)

    def loss(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss in nats over the labels that are not ignored.

        Args:
            ids: (rows, length) int64, on any device.
            labels: of the same shape; the token that follows each, or :data:`finetune.prompts.IGNORED`.
        """
        hidden = self._body(input_ids=ids.to(self.model.device), use_cache=False).last_hidden_state
        logits = self.model.lm_head(hidden).float()
        labels = labels.to(self.model.device)
        return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)

    def step(self, ids: torch.Tensor, labels: torch.Tensor, factor: float) -> float:
        """Take one optimiser step.

        Args:
            ids: as for :meth:`loss`.
            labels: as for :meth:`loss`.
            factor: times the peak learning rates.

        Returns:
            The loss before the step, in nats.
        """
        loss = self._backward(ids, labels)
        for name, p in self.model.named_parameters():
            self.masters[name].grad = p.grad.float()
            p.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters.values(), 1.0)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            optimiser.step()
        self._copy_masters()
        return loss

    def save(self, path: Path, step: int) -> None:
        """Write weights, optimiser states and the step to one safetensors file, whole or not at all."""
        tensors = {f"weight.{n}": p for n, p in self.masters.items()}
        for i, optimiser in enumerate(self._optimisers):
            for j, state in optimiser.state_dict()["state"].items():
                tensors |= {f"state.{i}.{j}.{k}": torch.as_tensor(v).contiguous() for k, v in state.items()}
        metadata = {"step": str(step), "recipe": self.recipe.digest}
        replace_file(path, lambda fresh: save_file(tensors, fresh, metadata))

    def restore(self, path: Path) -> int:
        """Take up the state of a checkpoint.

        Args:
            path: what :meth:`save` wrote.

        Returns:
            The number of steps done.

        Raises:
            InputError: it is damaged, or of another recipe.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise InputError(f"{path}: is damaged; remove {path.parent} to start again") from error
        if metadata["recipe"] != self.recipe.digest:
            raise InputError(f"{path}: is of another recipe; remove {path.parent} or choose another --out")
        states: list[dict[int, dict[str, torch.Tensor]]] = [{} for _ in self._optimisers]
        for key, tensor in tensors.items():
            kind, rest = key.split(".", 1)
            if kind == "weight":
                self.masters[rest].copy_(tensor)
            else:
                i, j, name = rest.split(".")
                states[int(i)].setdefault(int(j), {})[name] = tensor
        for optimiser, state in zip(self._optimisers, states, strict=True):
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        self._copy_masters()
        return int(metadata["step"])

    def _backward(self, ids: torch.Tensor, labels: torch.Tensor) -> float:
        try:
            loss = self.loss(ids, labels)
            loss.backward()
        except Exception as error:
            # the compiler works at the first step of each shape, and fails in as many ways as it has parts
            if self._body is self.model.model:
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(f"torch.compile failed ({reason}); going on without it, slower", stacklevel=3)
            self._body = self.model.model
            self.model.zero_grad()
            return self._backward(ids, labels)
        return float(loss.detach())

    def _copy_masters(self) -> None:
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(self.masters[name])


def _optimisers(recipe: PretrainRecipe, masters: dict[str, torch.Tensor]) -> list[torch.optim.Optimizer]:
    """One for the hidden matrices and one for the rest; ``peak`` in their groups is the learning rate."""
    matrices = [p for n, p in masters.items() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in masters.items() if p.ndim < 2 or "embed" in n]
    options = {"lr": recipe.lr_matrix, "weight_decay": recipe.weight_decay}
    group = {"params": matrices, "peak": recipe.lr_matrix}
    if recipe.optimiser == "muon":
        first: torch.optim.Optimizer = torch.optim.Muon([group], adjust_lr_fn="match_rms_adamw", **options)
    else:
        first = torch.optim.AdamW([group], betas=(0.9, 0.95), **options)
    group = {"params": rest, "peak": recipe.lr_rest}
    return [first, torch.optim.AdamW([group], lr=recipe.lr_rest, betas=(0.9, 0.95), weight_decay=0.0)]


def summed_loss(
    model: torch.nn.Module, tokens: np.ndarray, *, length: int, rows: int = 8
) -> tuple[float, int]:
    """Add up the next-token loss of a token stream, read in consecutive windows without overlap.

    Args:
        model: a causal language model; it comes back as it was.
        tokens: (n,) token ids.
        length: tokens of a window, each of which predicts the next token; a rest is left out.
        rows: windows in one forward pass.

    Returns:
        The sum in nats, and the number of tokens that it is over: ``(n - 1) // length * length``.
    """
    total, windows = 0.0, (len(tokens) - 1) // length
    with torch.inference_mode():
        for start in range(0, windows, rows):
            count = min(rows, windows - start)
            piece = tokens[start * length : (start + count) * length + 1].astype(np.int64)
            ids = torch.from_numpy(piece).to(model.device)
            logits = model(input_ids=ids[:-1].view(count, length), use_cache=False).logits
            total += float(cross_entropy(logits.float().flatten(0, 1), ids[1:], reduction="sum"))
    return total, windows * length
