"""The command line, called within the process of the tests."""

import sys

import pytest

from valuelearn import cli


def call(*arguments, code=0):
    """Run `valuelearn` with arguments, to an exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["valuelearn", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == code
