"""Errors that are the user's to mend: one line each, naming the thing and the fix."""


class InputError(ValueError):
    """A file, a record or a setting that cannot be used.

    The message is one line that names the thing and what to do about it; the command line prints
    it without a traceback.
    """
