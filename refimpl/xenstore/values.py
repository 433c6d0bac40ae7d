"""Node values are text a peer may have written: parse them strictly.

Python's own ``int()`` takes signs, spaces, underscores and foreign digits, so it is never asked first.
"""

from __future__ import annotations

from refimpl.errors import PeerViolation

_UINT32_MAX = 2**32 - 1
_LONGEST_UINT32 = len(str(_UINT32_MAX))
_SHOWN_BYTES = 40


def parse_uint32(requirement: str, field: str, raw: bytes | None, *, peer: int | None = None) -> int:
    """Return the value of a decimal 32-bit node.

    Takes ASCII digits only, at most ten of them, and tolerates one trailing NUL, which some peers write.
    Raises PeerViolation naming ``requirement`` and ``field``, also for a missing node.
    """
    digits = (raw or b"").removesuffix(b"\0")
    if 0 < len(digits) <= _LONGEST_UINT32 and digits.isdigit() and int(digits) <= _UINT32_MAX:  # SEC-B-17
        return int(digits)
    found = None if raw is None else raw[:_SHOWN_BYTES]
    raise PeerViolation(requirement, field, found, "a decimal number from 0 to 4294967295", peer)
