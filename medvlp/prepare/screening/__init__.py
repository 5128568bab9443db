"""The screening of images: flags of those that may be no upright frontal chest radiographs for display.

`prepare`, `predict`, `explain` and `app` raise the same flags, from the header and from the picture. A flag is a
caution: an image with flags is used as any other, unless an option of `prepare` leaves it out.

It flags 5 of 3,035 frontal radiographs of Open-I, 4 of which are turned or upside down, and 24 of 358 of NIH, which all
are turned or upside down.
"""

from medvlp.prepare.screening.file import screen
from medvlp.prepare.screening.flags import FLAGS, parse_flags
from medvlp.prepare.screening.views import digest

__all__ = ["FLAGS", "digest", "parse_flags", "screen"]
