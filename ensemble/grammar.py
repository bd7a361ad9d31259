"""The grammar of an answer: it cites only contexts of its prompt, and it ends only after it has cited one.

An engine that decodes by this grammar cannot pick a token that breaks it, so a wrong citation is not filtered out
afterwards: it is never written. The notation is XGrammar's EBNF, which OpenVINO and TensorRT-LLM both take.
"""

from functools import lru_cache

# What may stand before a mark, here and in `citations.MARK`: no letter, no digit, no `_`, no closing parenthesis, for
# behind those a bracket indexes. Beyond ASCII everything counts as a letter, which is stricter than needed and short.
# Of the control characters only tabs and line feeds are text.
_CLASSES = r"""
plain ::= [\t "-(*-\-/:->@\\\]^{-~]
unspaced ::= [\t"-(*-\-/:->@\\\]^{-~]
stop ::= [!.?]
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
_CITED = """
text_cited ::= "" | free text_cited | word word_cited | code code_cited | "[" open_cited | mark text_cited
word_cited ::= "" | free text_cited | word word_cited | code code_cited | "[" open_cited
code_cited ::= "" | free text_cited | word word_cited | "[" open_cited | mark text_cited
open_cited ::= free text_cited | letter word_cited | code code_cited | "[" open_cited
"""

# The same before the first mark, once for each end of a sentence or line that is behind: `stop` follows what ends a
# sentence if a space comes next.
_UNCITED = r"""
on_{ends} ::= plain text_{ends} | stop stop_{ends} | "\n" text_{more}
text_{ends} ::= on_{ends} | word word_{ends} | code code_{ends} | "[" open_{ends} | mark text_cited
word_{ends} ::= on_{ends} | word word_{ends} | code code_{ends} | "[" open_{ends}
code_{ends} ::= on_{ends} | word word_{ends} | "[" open_{ends} | mark text_cited
open_{ends} ::= on_{ends} | letter word_{ends} | code code_{ends} | "[" open_{ends}
stop_{ends} ::= " " text_{more} | unspaced text_{ends} | "\n" text_{more} | stop stop_{ends} | word word_{ends}
  | code code_{ends} | "[" open_{ends} | mark text_cited
"""

UNCITED_ENDS = 2
"""Ends of sentences or lines that an answer may have before its first mark. A model that never learnt to cite would
write on until it is cut, because it may not end; the default adapter cites in its first sentence."""

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
    states = [_UNCITED.format(ends=ends, more=ends + 1) for ends in range(UNCITED_ENDS)]
    last = f"text_{UNCITED_ENDS} ::= mark text_cited\n"
    return f'root ::= text_0\nmark ::= "[" ({numbers}) "]"' + _CLASSES + "".join(states) + last + _CITED


def common_grammars() -> tuple[str, ...]:
    """What an engine should have compiled when it is ready: about 0.1 s of CPU and 0.1 MB each."""
    return tuple(citing_grammar(contexts) for contexts in range(1, COMMON_CONTEXTS + 1))
