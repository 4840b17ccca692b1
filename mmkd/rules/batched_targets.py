"""Whether a run finds the targets of a whole batch at once."""

from mmengine.config import Config


def wants_batched_targets(cfg: Config) -> bool:
    """What the config's ``batched_targets`` says; without it True.

    Raises:
        ValueError: it is neither True nor False.
    """
    value = cfg.get('batched_targets', True)
    if value not in (True, False):
        raise ValueError(
            f'batched_targets must be True or False, but got {value!r}. Set it to False for '
            "mmdet's way, image by image, or leave it out."
        )
    return bool(value)
