"""Every private part of another library that is used here, with the reason; tests/test_upstream.py checks each."""
import argparse
from typing import Any


def parser_actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The arguments of a parser by name: argparse has no public list of them."""
    return {action.dest: action for action in parser._actions}


def convert_text(parser: argparse.ArgumentParser, action: argparse.Action, text: str) -> Any:
    """A text as the command line converts it, by the argument's type.

    Raises:
        argparse.ArgumentError: It can't be converted.
    """
    return parser._get_value(action, text)


def check_choice(parser: argparse.ArgumentParser, action: argparse.Action, value: Any) -> Any:
    """`value`, which must be one of the argument's choices.

    Raises:
        argparse.ArgumentError: It isn't.
    """
    parser._check_value(action, value)
    return value
