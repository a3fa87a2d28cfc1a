"""What `--suite` means."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deep_delta.data.language.phenomena import PHENOMENA
from deep_delta.data.synthetic.tasks import TASKS
from deep_delta.errors import ConfigError
from deep_delta.evaluation.suites.names import check_names, chosen


def test_names_of_suites():
    assert chosen(["all"]) == (list(PHENOMENA), list(TASKS))
    assert chosen(["logic"]) == ([], list(TASKS))
    assert chosen(["binding"]) == (["reflexive_number", "reflexive_gender"], [])
    assert chosen(["overwrite", "there"]) == (["there"], ["overwrite"])
    with pytest.raises(ConfigError, match="unknown suite 'filler'; did you mean filler_gap"):
        check_names(["filler"])


def test_a_wrong_name_is_told_without_torch():
    program = "import sys, deep_delta.evaluation.suites.names; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
