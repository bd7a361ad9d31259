"""What TensorRT-LLM 1.2.1 accepts at run time (``contract.json``), and the checks of what we hand over against it.

It cannot be asked where there is no GPU, so names, types and ranges are kept as facts. The runtimes check every tensor
and argument before it leaves; the graph of the native models checks every parameter before it is written.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from slipstream.engines.tensorrt_llm.contract.facts import ContractViolation, require, section

_TEXT = {
    "bool": re.compile("true|false"),
    "int": re.compile("-?[0-9]+"),
    "float": re.compile(r"-?[0-9]+(\.[0-9]+)?"),
    "path": re.compile("/.+"),
    "str": re.compile(".+"),
    "list[int]": re.compile("-?[0-9]+(,-?[0-9]+)*"),
}
"""How a parameter of a model configuration, which is always text, spells its type."""


@cache
def contract() -> Mapping[str, Any]:
    """The kept facts: ``backend`` (inputs, outputs, parameters of a model) and ``sampling`` (fields by class)."""
    content: dict[str, Any] = json.loads(Path(__file__).with_name("contract.json").read_text(encoding="utf-8"))
    return content


def check_tensors(side: Literal["inputs", "outputs"], tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Check ``tensors`` (data type and shape, the batch dimension included, by name) of one request or response.

    Raises:
        ContractViolation: unknown or missing name, wrong data type or shape.
    """
    known = contract()["backend"][side]
    for name, (dtype, shape) in tensors.items():
        if name not in known:
            raise ContractViolation(f"the backend has no {side[:-1]} {name!r}")
        if dtype not in _either(known[name]["dtype"]):
            raise ContractViolation(f"{side[:-1]} {name} is {known[name]['dtype']}, not {dtype}")
        dims = known[name]["dims"]
        if len(shape) != len(dims) + 1 or any(want not in (-1, got) for want, got in zip(dims, shape[1:], strict=True)):
            raise ContractViolation(f"{side[:-1]} {name} has shape {list(shape)}; a batch of {dims} is taken")
    needed = {name for name, entry in known.items() if not entry.get("optional")} if side == "inputs" else set()
    if missing := sorted(needed - tensors.keys()):
        raise ContractViolation(f"the backend needs {', '.join(missing)}")


def check_arguments(name: Literal["SamplingParams", "GuidedDecodingParams"], arguments: Mapping[str, Any]) -> None:
    """Check the keyword arguments of a class of the LLM API.

    Raises:
        ContractViolation: an argument that the class lacks, of another type, or out of range.
    """
    require(_section(name), arguments)
    if name == "GuidedDecodingParams" and len(arguments) != 1:
        raise ContractViolation("GuidedDecodingParams takes one guide")


@cache
def _section(name: str) -> type[BaseModel]:
    return section(name, contract()["sampling"][name], {})


def check_parameters(parameters: Mapping[str, str]) -> None:
    """Check the ``parameters`` of a native model's configuration.

    Raises:
        ContractViolation: an unknown or missing key, a value of another type, out of range or not among the choices.
    """
    known = contract()["backend"]["parameters"]
    for name, text in parameters.items():
        if name not in known:
            raise ContractViolation(f"the backend has no parameter {name!r}")
        _check_parameter(name, text, known[name])
    if missing := sorted({name for name, entry in known.items() if entry.get("mandatory")} - parameters.keys()):
        raise ContractViolation(f"the backend needs the parameters {', '.join(missing)}")


def _check_parameter(name: str, text: str, entry: Mapping[str, Any]) -> None:
    if entry.get("empty") and not text:
        return
    if "fixed" in entry and text != entry["fixed"]:
        raise ContractViolation(f"parameter {name} is always {entry['fixed']!r}, not {text!r}")
    kinds = entry.get("type", "str").split("|")
    if not any(_TEXT[kind].fullmatch(text) for kind in kinds):
        raise ContractViolation(f"parameter {name} is {entry.get('type', 'str')}, not {text!r}")
    if text not in entry.get("allowed", [text]):
        raise ContractViolation(f"parameter {name} is one of {', '.join(entry['allowed'])}, not {text!r}")
    if "range" in entry and not entry["range"][0] <= float(text) <= entry["range"][1]:
        raise ContractViolation(f"parameter {name} lies in {entry['range']}, not at {text}")


def _either(dtype: str | list[str]) -> list[str]:
    return [dtype] if isinstance(dtype, str) else dtype
