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


class ModelError(AntiphonError):
    """A model that cannot be made of what is there, or that is asked for what it cannot do."""


class TooLongError(ModelError):
    """A turn that is longer than the model can take in."""


class UnsayableError(ModelError):
    """A text in which there is nothing that the voice can say."""


class UnsaidWarning(UserWarning):
    """Part of a text that the voice leaves unsaid."""


class DataError(AntiphonError):
    """Recordings, texts, or a set on disk that cannot be used or written."""


class TrainingError(AntiphonError):
    """A run of training that cannot go on; its last checkpoint is intact."""


class SessionError(AntiphonError):
    """A conversation that is used out of order, or asked for what its mode does not know."""


class ToolCallError(AntiphonError):
    """A function, a call of it or its result that can't be used."""


class EvalError(AntiphonError):
    """A measure, a judge or a report that cannot be had from what is there."""
