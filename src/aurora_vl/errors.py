"""The one exception that means: the person using Aurora can mend this.

The command line prints its sentence and exits with status 2; nothing else is shown.
"""

from __future__ import annotations


class UserError(Exception):
    """A wrong input, in one sentence that names the file, key or value and the way out."""
