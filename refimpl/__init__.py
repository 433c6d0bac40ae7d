"""PV Calls protocol version 1: a spec-annotated reference implementation.

The document's sections are the packages: ``xenstore``, ``commands``, ``data_ring``.
The two ends are ``frontend`` (the guest's side) and ``backend`` (the host's side); ``toolstack`` introduces them.
What they run on is ``platform``: ``shm`` between processes, ``xen`` between domains.
"""

__version__ = "0.1.0"
