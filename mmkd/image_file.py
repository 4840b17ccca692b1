"""What an image file must be to be trained on."""


class ImageError(ValueError):
    """An image that cannot be read whole; the message names the file."""

    def __init__(self, message: str) -> None:
        # A loader's worker hands an error on with its traceback in front: the message is its end.
        super().__init__(message.rsplit(f'{type(self).__name__}: ', 1)[-1].strip())

    @classmethod
    def of(cls, path: str, cause: Exception) -> 'ImageError':
        """The error for a file that could not be read because of ``cause``."""
        return cls(
            f'each image must be a whole file that its decoder can read, but "{path}" is not '
            f'({" ".join(str(cause).split())}). Get the file again, or take the image out of the '
            'annotations.'
        )


def check_whole(content: bytes) -> None:
    """Check that a JPEG has its end; other formats are left to their decoders, which do.

    In a JPEG's coded data no marker occurs, so that a whole one has an end-of-image marker behind
    its last start-of-scan, whatever thumbnails precede it or zeros follow it.

    Raises:
        ValueError: it has no end.

    Example:
        >>> check_whole(bytes.fromhex('ffd8 ffda 0123 ffd9 0000'))
    """
    if content.startswith(b'\xff\xd8') and not content.endswith(b'\xff\xd9'):
        end, scan = content.rfind(b'\xff\xd9'), content.rfind(b'\xff\xda')
        if end < max(scan, 0):
            raise ValueError(f'the JPEG breaks off after {len(content)} bytes')
