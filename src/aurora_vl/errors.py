"""The one exception that means: the person using Aurora can mend this.

The command line prints its sentence and exits with status 2; nothing else is shown.
"""

from __future__ import annotations


class UserError(Exception):
    """A wrong input, in one sentence that names the file, key or value and the way out."""


class MediaError(UserError):
    """A picture or video that is absent, damaged or no medium that can be read.

    Only this one file is at fault, so who reads many may note it and go on. The sentence ends in a
    way out to which a caller can add another one ("..., or take it out of the annotations").
    """
