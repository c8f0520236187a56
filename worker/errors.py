"""What can go wrong, as one tree.

::

    RouterError
    ├── BadInput                     the file is at fault: recorded once, never retried
    │   ├── NotDicom
    │   ├── NoPixels
    │   ├── BlankPixels              every pixel has the same value
    │   ├── UnsupportedTransferSyntax
    │   ├── CorruptPixels
    │   ├── ImageTooLarge
    │   ├── CrashedProcess           took its process down twice
    │   └── NotAnXRay                not ours to judge: left alone, not a failure
    ├── ArchiveUnavailable           Orthanc does not answer: waited for, no image is blamed
    ├── BrokerUnavailable            Redis does not answer: the same
    ├── BadMessage                   nobody can read this message: a dead letter at once
    ├── ForeignMessage               for workers of a newer version or of another archive: waits for them
    ├── ModelError
    │   ├── BadModelFile
    │   └── AcceleratorMissing
    └── ConfigError                  a setting is wrong or a part is missing

Each error names the thing and its value (`what`) and the way out (`remedy`).
None carries a patient's name, identifier or date.
"""

from __future__ import annotations


class RouterError(Exception):
    """Base of every error that this project raises on purpose.

    what: the thing and its value, such as "(0028,0010) Rows is 0", without a full stop.
    remedy: the way out, such as "send the image again from its source"; "" where there is none.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}." if self.remedy else self.what

    @property
    def kind(self) -> str:
        """The class name: what a verdict and the command line report."""
        return type(self).__name__


class BadInput(RouterError):
    """The file itself cannot be judged; trying again would not help."""


class NotDicom(BadInput):
    """Neither a DICOM file nor a PNG or JPEG picture."""


class NoPixels(BadInput):
    """An image object without (or with empty) pixel data."""


class BlankPixels(BadInput):
    """Every pixel of the image has the same value: there is nothing to judge."""


class UnsupportedTransferSyntax(BadInput):
    """No installed decoder reads this encoding."""


class CorruptPixels(BadInput):
    """The pixel data is cut short, or its decoder refuses it."""


class ImageTooLarge(BadInput):
    """The declared size is over the limit; nothing was decoded."""


class CrashedProcess(BadInput):
    """Judging this image ended its worker process twice."""


class NotAnXRay(BadInput):
    """Another modality or no image at all; left alone, never a failure."""


class ArchiveUnavailable(RouterError):
    """Orthanc does not answer, or refuses the worker's requests."""


class BrokerUnavailable(RouterError):
    """Redis does not answer, or refuses the worker's requests."""


class BadMessage(RouterError):
    """A message in the queue is not what the plugin sends. Its content is never quoted: it may be anything."""


class ForeignMessage(RouterError):
    """A message is sound, and this worker cannot judge it.

    version: of messages that a worker must understand to judge it; 0 where any will do.
    archive: that the worker must serve; "" where only a newer worker can tell.
    """

    def __init__(self, what: str, remedy: str = "", *, version: int = 0, archive: str = "") -> None:
        super().__init__(what, remedy)
        self.version, self.archive = version, archive


class ModelError(RouterError):
    """The model cannot be used."""


class BadModelFile(ModelError):
    """The model file is missing, unreadable or lacks a property."""


class AcceleratorMissing(ModelError):
    """A GPU was demanded and no session could be made on one."""


class ConfigError(RouterError):
    """A setting is wrong, or a part that a command needs is missing."""
