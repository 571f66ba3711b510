"""Every public name has an example in its docstring, and the examples do what they say."""
import doctest
import inspect
import time

import pytest

import gradaug_timm

CALLABLE = [name for name in gradaug_timm.__all__ if callable(getattr(gradaug_timm, name))]
SECONDS = 20  # of one example; each takes less than 2 on one thread of an idle machine


def examples(name: str) -> list[doctest.DocTest]:
    """The examples in the docstring of an exported name, without those of methods."""
    value = getattr(gradaug_timm, name)
    found = doctest.DocTestFinder(recurse=False).find(value, name, globs={})
    return [test for test in found if test.examples]


@pytest.mark.parametrize('name', CALLABLE)
def test_a_public_name_has_an_example_in_a_section_of_its_own(name):
    assert examples(name), f'{name}: add an "Example:" section with >>> lines to the docstring'
    assert '\nExample:\n    >>> ' in inspect.getdoc(getattr(gradaug_timm, name))


@pytest.mark.parametrize('name', CALLABLE)
def test_examples_give_what_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some examples write files
    for test in examples(name):
        printed, start = [], time.perf_counter()
        results = doctest.DocTestRunner(verbose=False).run(test, out=printed.append)
        assert results.failed == 0, ''.join(printed)
        assert time.perf_counter() - start < SECONDS


def test_a_wrong_example_fails():
    def wrong():
        """Return nothing.

        Example:
            >>> 1 + 1
            3
        """
    test, = doctest.DocTestFinder(recurse=False).find(wrong, 'wrong', globs={})
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None).failed == 1
