"""The model card of an adapter: what it is, how to load it, and how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finetune.folders import write_whole
from finetune.progress import duration

if TYPE_CHECKING:
    from finetune.train import TrainResult

_BODY = """
# A style adapter

This LoRA adapter rewrites plain text in one style. It was trained with repgeo on pairs of plain and styled
sentences, and loads with peft on its base model:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{path}")
model = PeftModel.from_pretrained(base, "path/to/this/folder")
```

The prompt is `Input: ` and the plain text on one line, then `Output:` on the next, without a space after it.
`repgeo transfer --base {base} --adapter path/to/this/folder "text"` writes it.

## How it was made

| | |
|---|---|
| base | `{base}`, fingerprint `{fingerprint}` |
| adapter | {variant}, rank {r}, alpha {alpha}, {parameters:,} trained numbers |
| pairs | {n_train:,} to train, {n_valid:,} to validate, {n_long:,} left out (over {max_length} tokens) |
| loss on the validation pairs | {before:.4f} nats a token before, {after:.4f} after |
| steps | {steps:,} in {time}; the weights are those of step {best_step:,} |
| recipe | learning rate {lr:g}, batch {batch}, seed {seed}; digest `{digest}` |

The loss is of the answers alone. Every number and the loss curve are in `training.json`.
"""


def write_card(folder: Path, result: TrainResult) -> None:
    """Write README.md into an adapter's folder: peft's own metadata and our account of the training.

    Args:
        folder: where the adapter was saved.
        result: how it was made.
    """
    path = folder / "README.md"
    written = path.read_text(encoding="utf-8") if path.is_file() else ""
    parts = written.split("---\n", 2)
    header = f"---\n{parts[1]}---\n" if written.startswith("---\n") and len(parts) == 3 else ""
    recipe = result.recipe
    body = _BODY.format(
        base=result.base["name"],
        path=result.base["path"],
        fingerprint=result.base["fingerprint"][:16],
        variant=recipe["variant"],
        r=recipe["r"],
        alpha=recipe["alpha"],
        parameters=result.parameters,
        n_train=result.n_train,
        n_valid=result.n_valid,
        n_long=len(result.too_long),
        max_length=result.max_length,
        before=result.loss_before,
        after=result.loss_after,
        steps=result.steps,
        time=duration(result.seconds),
        best_step=result.best_step,
        lr=recipe["lr"],
        batch=recipe["batch_size"] * recipe["accumulation"],
        seed=recipe["seed"],
        digest=result.request["recipe"][:16],
    )
    write_whole(path, header + body)
