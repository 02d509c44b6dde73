"""The package's public names: all there, and Pyro imported by those alone that need it."""

import subprocess
import sys

import pytest

import sbp_bayes.concept


def test_every_public_name_is_there():
    for name in sbp_bayes.concept.__all__:
        assert getattr(sbp_bayes.concept, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'concept_programme'"):
        _ = sbp_bayes.concept.concept_programme


def test_pyro_is_imported_on_first_use():
    script = (
        "import sys, sbp_bayes.concept as c; before = 'pyro' in sys.modules; "
        "c.concept_program; print(before, 'pyro' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"]
