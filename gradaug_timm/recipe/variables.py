"""Variables of shell scripts, and what the shell makes of a word that holds them."""
import re
from collections.abc import Mapping

VARIABLE = re.compile(r'\$\{(\w+)(?:\[[@*]])?(?::?-([^{}]*))?}|\$(\w+)')
ARITHMETIC = re.compile(r'\$\[([^]]*)]')
QUOTED = '\0'  # stands for a $ in quotes


def replaced(word: str, variables: Mapping[str, str]) -> str:
    """Return a word with the values of variables, and of sums of them."""
    word = word.replace(QUOTED, '$')
    word = VARIABLE.sub(lambda found: variables.get(found[1] or found[3], found[2] or found[0]), word)
    return ARITHMETIC.sub(lambda found: _computed(found[1], variables) or found[0], word)


def expanded(word: str, variables: Mapping[str, str]) -> list[str]:
    """Return the words that the shell makes of one: a variable without quotes may be several, and so is an array."""
    text = replaced(word, variables)
    return text.split() if word.startswith('$') or '[@]' in word else [text]


def _computed(expression: str, variables: Mapping[str, str]) -> str | None:
    """Return the value of whole numbers and variables with + - * /; None if it is not known."""
    text = re.sub(r'[A-Za-z_]\w*', lambda name: variables.get(name[0], name[0]), expression)
    if not re.fullmatch(r'\d+([-+*/]\d+)*', text):
        return None
    try:
        return str(eval(re.sub(r'0*(\d+)', r'\1', text).replace('/', '//')))
    except ZeroDivisionError:
        return None
