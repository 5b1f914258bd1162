"""The one base of every error that is the user's to mend."""


class UserError(ValueError):
    """A mistake told in one sentence: where it is, what was found, what was wanted."""
