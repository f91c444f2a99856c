"""Exceptions cross process borders, and one name catches them all."""

import inspect
import pickle

import pytest

from dimoo_core import errors

_CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__]


@pytest.mark.parametrize("error_class", _CLASSES, ids=lambda cls: cls.__name__)
def test_an_exception_survives_pickling(error_class: type[Exception]) -> None:
    assert issubclass(error_class, errors.DimooError)
    error = error_class("what could not be done")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_class
    assert str(copy) == str(error)
