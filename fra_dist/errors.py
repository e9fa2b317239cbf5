"""The exceptions that users meet.

Each carries one line: what is wrong, where, and what to do. The command line prints that line and exits with the
exception's `exit_status`; a traceback is shown only for errors that are not one of these.
"""

from fra_dist.exit_status import FAILED, REFUSED


class FraError(Exception):
    """Base of every error whose cause lies outside this package: the input, a disk, a network, another rank."""

    exit_status = REFUSED
    """The status that the command line exits with. The default tells launchers that another attempt would not help."""


class ConfigError(FraError):
    """A configuration file or an override cannot be used."""


class DataError(FraError):
    """Photos, shards, a manifest or labels cannot be used."""


class StoreError(DataError):
    """A store of shards, or the network to it, does not answer as it should; another attempt may succeed."""

    exit_status = FAILED


class CheckpointError(FraError):
    """A checkpoint is missing, damaged, of another format or of another model."""


class SaveError(CheckpointError):
    """A checkpoint could not be written: the disk refuses or hangs. Another attempt may succeed."""

    exit_status = FAILED


class TrainingError(FraError):
    """The training itself went wrong, and another attempt would go wrong in the same way."""


class LaunchError(FraError):
    """A process group, a cluster or a run folder cannot be used."""


class RendezvousError(LaunchError):
    """The ranks could not meet; another attempt may succeed."""

    exit_status = FAILED


class ClusterError(LaunchError):
    """A cluster does not start or does not answer; another attempt may succeed."""

    exit_status = FAILED


class DiskError(FraError):
    """A disk, or the network behind it, does not answer as it should, or is full; another attempt may succeed."""

    exit_status = FAILED


class AccessError(FraError):
    """A file or folder is there but this user cannot use it, or it is of the wrong kind.

    Another attempt would not help.
    """
