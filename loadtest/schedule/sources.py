"""Which prompts a scenario asks: its own, and those of the lengths that a trace recorded."""

from collections.abc import Iterator, Sequence

from slipstream.loadtest.scenario import FilePrompts, GoldenPrompts, Scenario
from slipstream.loadtest.schedule.prompts import Pool, Prompt, read_golden, read_prompts
from slipstream.loadtest.schedule.synthetic import Synthetic, Words, bounds, synthetic_prompt
from slipstream.loadtest.schedule.tokens import ServerTokenizer
from slipstream.loadtest.schedule.trace import Recorded


def open_source(scenario: Scenario, tokenizer: ServerTokenizer | None) -> Pool | Synthetic:
    """Where ``scenario``'s prompts come from.

    Raises:
        PromptsInvalid: a file of them is wrong.
        TokenizerMissing, TokenizerUnsuitable: see `Words.of`.
    """
    prompts = scenario.prompts
    if isinstance(prompts, GoldenPrompts):
        return Pool(read_golden(prompts.set, scenario.endpoint), scenario.seed)
    if isinstance(prompts, FilePrompts):
        return Pool(read_prompts(prompts.path, scenario.endpoint), scenario.seed)
    return Synthetic(Words.of(tokenizer, scenario.seed), bounds(prompts.tokens), scenario.endpoint)


def check_distinct(source: Pool | Synthetic, prompts: int) -> None:
    """Whether ``source`` has as many different prompts as it promises.

    Raises:
        TokenizerUnsuitable: it has not.
    """
    if isinstance(source, Synthetic):
        source.words.check_enough(source.lengths[0], prompts)


def prompts_of(scenario: Scenario, moments: Sequence[Recorded], tokenizer: ServerTokenizer | None) -> Iterator[Prompt]:
    """A prompt for each of ``moments``: a synthetic one where it has a length, else the scenario's next.

    Raises:
        InputError: see `open_source` and `check_distinct`.
    """
    lengths = [moment.input_tokens for moment in moments if moment.input_tokens is not None]
    others = [index for index, moment in enumerate(moments) if moment.input_tokens is None]
    words = Words.of(tokenizer, scenario.seed) if lengths else None
    if words is not None:
        words.check_enough(min(lengths), len(moments))
    source = open_source(scenario, tokenizer) if others else None
    if source is not None:
        check_distinct(source, len(moments))
    stream = source.stream(others) if source is not None else iter(())
    for index, moment in enumerate(moments):
        if words is not None and moment.input_tokens is not None:
            yield synthetic_prompt(words, index, moment.input_tokens, scenario.endpoint)
        else:
            yield next(stream)


__all__ = ["check_distinct", "open_source", "prompts_of"]
