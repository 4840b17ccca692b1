"""Which argument of a loss or connector takes which fact of the models."""

import inspect
from collections.abc import Mapping
from typing import Any

from mmrazor.registry import MODELS

#: Of MMRazor's connectors; some others of its arguments are named alike and mean another thing.
_OF_MMRAZOR = {
    'ConvModuleConnector': {'in_channel': 'channels', 'out_channel': 'counterpart_channels'},
    'MGDConnector': {
        'student_channels': 'channels',
        'teacher_channels': 'counterpart_channels',
    },
    'NormConnector': {'in_channels': 'channels'},
    'FBKDStudentConnector': {'in_channels': 'channels'},
    'FBKDTeacherConnector': {'in_channels': 'channels'},
    'Paraphraser': {'in_channel': 'channels'},
    'Translator': {'in_channel': 'channels'},
}

#: Of a class that does not say it: arguments without a default, by their names.
_BY_NAME = {
    'num_classes': 'classes',
    'prior_generator': 'priors',
    'bbox_coder': 'coder',
    **dict.fromkeys(('in_channel', 'in_channels', 'student_channels'), 'channels'),
    **dict.fromkeys(('out_channel', 'out_channels', 'teacher_channels'), 'counterpart_channels'),
}


def from_models(cls: type) -> Mapping[str, str]:
    """By argument the fact (:mod:`mmkd.binding.facts`) that it takes where a config leaves it out.

    A class says it in its attribute ``from_models``. Of one that does not, MMRazor's connectors
    are known; of others, arguments without a default count by their names.

    Example:
        >>> from mmkd.connectors import FeatureAdapter
        >>> from_models(FeatureAdapter)
        {'in_channels': 'channels', 'out_channels': 'counterpart_channels'}
    """
    said = declared(cls)
    if said is not None:
        return said
    parameters = inspect.signature(cls).parameters
    required = [name for name, p in parameters.items() if p.default is p.empty]
    return {name: _BY_NAME[name] for name in required if name in _BY_NAME}


def declared(cls: type) -> Mapping[str, str] | None:
    """The same, where it is known what the arguments mean; None where their names alone tell."""
    said = getattr(cls, 'from_models', None)
    if isinstance(said, Mapping):
        return said
    return _OF_MMRAZOR.get(cls.__name__, {}) if cls.__module__.startswith('mmrazor.') else None


def left_out(cls: type, settings: Mapping[str, Any], argument: str) -> bool:
    """Whether a config leaves an argument to the models: missing, None or an empty dict or list.

    To a class that does not declare it, what is given may mean anything: there it must be missing.
    """
    if declared(cls) is None:
        return argument not in settings
    value = settings.get(argument)
    return value is None or (isinstance(value, dict | list | tuple) and not value)


def class_of(settings: Any) -> type:
    """The class that a config names; ``object`` for none, of which the builder says what is wrong.

    >>> class_of(dict(type='FeatureAdapter')).__name__, class_of(None)
    ('FeatureAdapter', <class 'object'>)
    """
    kind = settings.get('type') if isinstance(settings, Mapping) else None
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return found if inspect.isclass(found) else object
