"""An adapter written by hand: peft's two files, for modules of any name and width."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

QUERIES = "model.layers.0.self_attn.q_proj"


def write_lora(
    folder: Path, modules: Mapping[str, tuple[int, int]] | None = None, *, rank: int = 4, seed: int = 0, **config: Any
) -> Path:
    """Write an adapter of ``modules`` (input width, output width); ``config`` replaces fields of its configuration."""
    random = np.random.default_rng(seed)
    matrices = {}
    for name, (wide_in, wide_out) in (modules or {QUERIES: (64, 64)}).items():
        for side, shape in (("A", (rank, wide_in)), ("B", (wide_out, rank))):
            matrices[f"base_model.model.{name}.lora_{side}.weight"] = random.normal(size=shape).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(matrices, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(fields), encoding="utf-8")
    return folder
