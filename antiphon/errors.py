"""Errors that a user may meet: one base class, so that a program can catch them all.

A message says what was wrong, where, and what to do about it. The command line prints it on one line and exits with 1.
"""


class AntiphonError(Exception):
    """Base of every error that Antiphon raises on purpose."""


class AudioError(AntiphonError):
    """A sound that cannot be read, used or written; or no microphone or speaker."""


class HubError(AntiphonError):
    """Weights that cannot be found, fetched, verified, converted or stored."""


class ConfigError(AntiphonError):
    """A recipe or a setting that makes no sense."""
