"""Put on the path of processes that a recorded test run starts: lets them record too.

Then it steps aside for a sitecustomize of the system's own, if there is one.
"""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))

if "REFIMPL_EVIDENCE_FOLDER" in os.environ:
    try:
        from refimpl.speclink.loader import start_in_child
    except ImportError:
        pass  # a Python that does not have this package
    else:
        start_in_child()

_others = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _here]
_spec = importlib.machinery.PathFinder.find_spec("sitecustomize", _others)
if _spec is not None and _spec.loader is not None:
    _spec.loader.exec_module(importlib.util.module_from_spec(_spec))
