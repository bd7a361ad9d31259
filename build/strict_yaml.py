"""YAML as a person writes it by hand: a key written twice is an error, and errors are one line."""

from typing import Any

import yaml

YAMLError = yaml.YAMLError


def load_strict(text: str) -> Any:
    """What ``text`` says.

    Raises:
        YAMLError: not YAML, a key written twice, or one that is no word.
        RecursionError: nested too deeply.
    """
    return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506  # a SafeLoader


def one_line(error: yaml.YAMLError) -> str:
    """What is wrong, and the line if it is known."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)


class _UniqueKeys(yaml.SafeLoader):
    """A SafeLoader that refuses a key written twice, where YAML would let the last one win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key has to be a word", key.start_mark)
            if key.value in seen:
                problem = f"the key {key.value!r} is written twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


__all__ = ["YAMLError", "load_strict", "one_line"]
