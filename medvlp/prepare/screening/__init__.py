"""The screening of images: flags of those that may be no upright frontal chest radiographs for display.

`prepare`, `predict`, `explain` and `app` raise the same flags, from the header and from the picture. A flag is a
caution: an image with flags is used as any other, unless an option of `prepare` leaves it out.

Of 187 lateral radiographs of Open-I it flags 185 as lateral, by their looks alone. Of 3,035 frontal ones it flags none
as lateral, 4 that are turned or upside down as that, and 10 (0.3 %) as mirrored, which they are not; of 358 of NIH, 24
that are turned or upside down, and 2 as mirrored. Of frontal radiographs that are inverted, turned or put upside down,
it recognises 99 %; of mirrored ones 56 %.
"""

from medvlp.prepare.screening.file import screen
from medvlp.prepare.screening.flags import FLAGS, parse_flags
from medvlp.prepare.screening.views import digest

__all__ = ["FLAGS", "digest", "parse_flags", "screen"]
