"""How deep a text would nest, told before Python 3.10's parser overflows the stack on it."""

import io
import tokenize

_DEEPEST = 1000  # of a config that is written by hand or by mmengine: some ten

#: What nests anew wherever it stands: a function in a function, a condition in the other's else.
_NESTING = ('lambda', 'elif')


def nests_too_deep(text: str) -> bool:
    """Whether parts of a text may lie in each other more often than in any config.

    Python 3.10 makes objects of the tree without a limit: on ``a.b.c...`` or ``- - -1``
    of thousands of parts the process ends. Brackets in brackets it does limit. So of each
    expression the words are counted that have no comma of the same brackets between them.

    Args:
        text: Python; of text that is none the parser tells by itself.

    Example:
        >>> nests_too_deep('a = dict(b=[1, 2], c=3)'), nests_too_deep('a = b' + '.c' * 2000)
        (False, True)
    """
    counts, nested = [0], 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            word = token.string
            if token.type == tokenize.NEWLINE:
                counts = [0]
            elif word in ('(', '[', '{'):
                counts.append(0)
            elif word in (')', ']', '}') and len(counts) > 1:
                counts.pop()
            elif word == ',':
                counts[-1] = 0
            if token.type not in (tokenize.NL, tokenize.COMMENT, tokenize.NEWLINE) and word != ',':
                counts[-1] += 1
            nested += word in _NESTING
            if sum(counts) > _DEEPEST or nested > _DEEPEST:
                return True
    except (tokenize.TokenError, SyntaxError):
        return False
    return False
