"""The grammar of an answer: it cites only contexts of its prompt, and it ends only after it has cited one.

An engine that decodes by this grammar cannot pick a token that breaks it, so a wrong citation is not filtered out
afterwards: it is never written. The notation is XGrammar's EBNF, which OpenVINO and TensorRT-LLM both take.
"""

from functools import lru_cache

# What may stand before a mark, here and in `citations.MARK`: no letter, no digit, no `_`, no closing parenthesis, for
# behind those a bracket indexes. Beyond ASCII everything counts as a letter, which is stricter than needed and short.
# Of the control characters only tabs and line feeds are text.
_CLASSES = r"""
free ::= [\t\n -(*-/:-@\\\]^{-~]
word ::= [)0-9A-Za-z_\u0080-\U0010ffff]
letter ::= [)A-Za-z_\u0080-\U0010ffff]
code ::= "`" [\t -_a-~\u0080-\U0010ffff]+ "`" | "``" [\t -_a-~\u0080-\U0010ffff]+ "``" | "```" block "```"
block ::= ([\t\n -_a-~\u0080-\U0010ffff] | "`" [\t\n -_a-~\u0080-\U0010ffff] | "``" [\t\n -_a-~\u0080-\U0010ffff])+
"""

# One state for each kind of thing that came last: `text` begins or follows a free character or a mark, `word` follows
# a word, `code` a code span (another backtick would make it a longer run), `open` a bracket (a digit would make it a
# mark). Every rule is right-recursive, so that a state of the text is one state of the matcher; written with `*`, the
# same language took 100 ms for the mask of some tokens instead of 0.1 ms.
_STATES = """
text_{when} ::= {end}free text_{when} | word word_{when} | code code_{when} | "[" open_{when} | mark text_cited
word_{when} ::= {end}free text_{when} | word word_{when} | code code_{when} | "[" open_{when}
code_{when} ::= {end}free text_{when} | word word_{when} | "[" open_{when} | mark text_cited
open_{when} ::= free text_{when} | letter word_{when} | code code_{when} | "[" open_{when}
"""


COMMON_CONTEXTS = 12
"""Prompts rarely have more contexts: 768 tokens of code held 2 to 10 for the questions of `tests.benchmarks`."""


@lru_cache(maxsize=128)
def citing_grammar(contexts: int) -> str:
    """The grammar for an answer from ``contexts`` numbered contexts, at least one, in XGrammar's EBNF.

    Outside of code ``[`` and digits are possible only as ``[1]`` to ``[contexts]`` standing free; the end is possible
    only after such a mark and outside of code. Inside of code (between runs of one or two backticks on a line, or of
    three) everything is possible but the backticks, and nothing counts as a mark.
    """
    if contexts < 1:
        raise ValueError("an answer without contexts has nothing to cite")
    numbers = " | ".join(f'"{number}"' for number in range(1, contexts + 1))
    return (
        "root ::= text_uncited\n"
        f'mark ::= "[" ({numbers}) "]"'
        + _CLASSES
        + _STATES.format(when="uncited", end="")
        + _STATES.format(when="cited", end='"" | ')
    )


def common_grammars() -> tuple[str, ...]:
    """What an engine should have compiled when it is ready: about 0.1 s of CPU and 0.1 MB each."""
    return tuple(citing_grammar(contexts) for contexts in range(1, COMMON_CONTEXTS + 1))
