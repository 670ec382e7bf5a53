"""The one error a user is meant to read: it names the value, the reason and the fix."""


class UserError(ValueError):
    """Bad input. The message is one clear line; the command line prints it and exits with code 2."""
