"""The command line: one module a sub-command; arguments in, one call into the packages below, text out."""

import sys
from types import TracebackType

_shown = sys.excepthook


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while modules are being imported is no error of theirs: one line, and the status that shells give it."""
    if issubclass(kind, KeyboardInterrupt):
        print("\nfra-dist: stopped", file=sys.stderr)
    else:
        _shown(kind, error, trace)


sys.excepthook = _without_traceback
