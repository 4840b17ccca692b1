"""Whether a config is that of a pair."""

from mmengine.config import Config


def is_distillation(config: Config) -> bool:
    """Whether a config's model is a distillation algorithm with a student inside."""
    return isinstance(config.get('model'), dict) and 'architecture' in config.model
