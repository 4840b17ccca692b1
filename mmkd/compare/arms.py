"""The arms of a comparison."""

from enum import Enum


class Arm(str, Enum):
    """A detector of a comparison; as text, its name on the command line, in files and in reports.

    Attributes:
        heading: its name in tables and pictures.
        colour: of its curves, for matplotlib.
        seconds: about how long its training takes, in proportion to the others.
        is_taught: whether a teacher distils into it.
    """

    heading: str
    colour: str
    seconds: float
    is_taught: bool

    TEACHER = ('teacher', 'Teacher', '0.5', 150, False)
    BASELINE = ('baseline', 'Baseline', 'tab:blue', 70, False)
    DISTILLED = ('kd', 'Distilled', 'tab:red', 100, True)
    SHUFFLED = ('shuffled', 'Shuffled teacher', 'tab:olive', 100, True)
    LONGER = ('longer', 'Longer baseline', 'tab:cyan', 100, False)

    def __new__(
        cls,
        name: str,
        heading: str = '',
        colour: str = '',
        seconds: float = 0,
        taught: bool = False,
    ) -> 'Arm':
        """A member whose value is its name."""
        arm = str.__new__(cls, name)
        arm._value_ = name
        arm.heading, arm.colour, arm.seconds, arm.is_taught = heading, colour, seconds, taught
        return arm

    # Python 3.12 changed what an f-string makes of such an enum.
    __str__ = str.__str__

    def __format__(self, format_spec: str) -> str:
        return str.__format__(self, format_spec)


#: The students, which a user chooses from.
ARMS = tuple(arm.value for arm in Arm if arm is not Arm.TEACHER)
#: Those that are trained unless others are asked for.
USUAL_ARMS = ('baseline', 'kd', 'shuffled')
