"""Every example in a docstring of mmkd runs and gives what it says."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import mmkd
import mmkd_onnx

MODULES = [m.name for m in pkgutil.walk_packages(mmkd.__path__, 'mmkd.')]
MODULES += [m.name for m in pkgutil.walk_packages(mmkd_onnx.__path__, 'mmkd_onnx.')]
MODULES.remove('mmkd.__main__')  # it is the command


@pytest.mark.parametrize('name', MODULES)
def test_doctests(name):
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(module, extraglobs={'torch': torch}, optionflags=flags)
    assert result.failed == 0
