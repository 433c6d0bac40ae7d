"""Declare a binary layout once; get its struct, offsets, diagram and dump from the declaration.

Spec: every layout of the document is one :class:`Layout` (requests, responses, the commands ring page, the indexes
page), checked in the tests against the C header compiled by a C compiler.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, Self

_C_NAMES = {"B": "uint8_t", "H": "uint16_t", "I": "uint32_t", "i": "int32_t", "Q": "uint64_t"}


class Field(NamedTuple):
    """One member: the C name, a struct format, its place in bytes.

    ``"I"`` is an integer, ``"28s"`` bytes, ``"512I"`` an array of integers (unpacked as its bytes), ``"7x"`` padding.
    """

    name: str
    format: str
    offset: int
    size: int

    @property
    def is_padding(self) -> bool:
        """Whether the bytes carry nothing: written as zero, ignored when read."""
        return self.format.endswith("x")

    @property
    def element(self) -> str:
        """The format without its count: what an array is an array of."""
        return self.format.lstrip("0123456789")

    @property
    def is_array(self) -> bool:
        """Whether it is an array of integers."""
        return self.element in _C_NAMES and self.element != self.format

    @property
    def c_type(self) -> str:
        """The member's C type, an array of bytes as ``uint8_t[n]``."""
        name = _C_NAMES.get(self.element)
        if name is None:
            return f"uint8_t[{self.size}]"
        return f"{name}[{self.size // struct.calcsize('<' + self.element)}]" if self.is_array else name


class Layout:
    """A packed little-endian structure (erratum E-ENDIAN): ``Layout("name", ("req_id", "I"), ("pad", "4x"))``.

    ``size`` is the structure's length in bytes; bytes past the last member up to ``total_size`` are padding.
    Every member must lie on its natural alignment, so that the layout equals the C compiler's.
    """

    def __init__(self, name: str, *members: tuple[str, str], total_size: int | None = None) -> None:
        self.name = name
        self.fields: tuple[Field, ...] = tuple(self._place(members))
        end = self.fields[-1].offset + self.fields[-1].size
        self.size = end if total_size is None else total_size
        if end > self.size:
            raise ValueError(f"{name}: members end at {end}, past {self.size}")
        formats = (f"{f.size}s" if f.is_array else f.format for f in self.fields)
        self._struct = struct.Struct("<" + "".join(formats) + f"{self.size - end}x")
        self._offsets = {f.name: f.offset for f in self.fields}
        #: ``unpack(buffer)``: the members' values in order, padding left out, from the start of ``buffer``.
        self.unpack = self._struct.unpack_from
        #: ``pack(*values)``: ``size`` fresh bytes, padding zero. Never packs into shared memory: CPython's pack_into
        #: clears its target before it writes, and a concurrent reader sees the zeros.
        self.pack = self._struct.pack

    def _place(self, members: tuple[tuple[str, str], ...]) -> Iterator[Field]:
        offset = 0
        for name, code in members:
            field = Field(name, code, offset, struct.calcsize("<" + code))
            alignment = struct.calcsize("<" + field.element) if field.element in _C_NAMES else 1
            if offset % alignment:
                raise ValueError(f"{self.name}.{name}: offset {offset} is not a multiple of {alignment}")
            yield field
            offset += field.size

    def offset_of(self, member: str) -> int:
        """Return the member's offset in bytes."""
        return self._offsets[member]

    @property
    def value_names(self) -> tuple[str, ...]:
        """The names of the members that carry a value, in the order :attr:`unpack` gives them."""
        return tuple(f.name for f in self.fields if not f.is_padding)

    def diagram(self) -> str:
        """Draw the structure, a line a member: offset, size, C type, name."""
        rows = [f"{f.offset:>6} {f.size:>5}  {f.c_type:<12} {f.name}" for f in self.fields]
        end = self.fields[-1].offset + self.fields[-1].size
        if end < self.size:
            rows.append(f"{end:>6} {self.size - end:>5}  {'':<12} (padding)")
        return "\n".join([f"{self.name}, {self.size} bytes", f"{'offset':>6} {'size':>5}  type         name", *rows])

    def dump(self, buffer: bytes) -> str:
        """Describe a buffer in one line, ``name=value`` a member; a short buffer is said, never an exception."""
        if len(buffer) < self._struct.size:
            return f"{self.name} ({len(buffer)} of {self.size} bytes) {bytes(buffer).hex()}"
        values = zip(self.value_names, self.unpack(buffer), strict=True)
        shown = (f"{n}={v.hex() if isinstance(v, bytes) else v}" for n, v in values)
        return f"{self.name} " + " ".join(shown)


class Structure:
    """A dataclass whose members are a :class:`Layout`'s values, by name and in its order.

    Subclasses are dataclasses with ``LAYOUT`` set.
    """

    LAYOUT: ClassVar[Layout]
    _values: ClassVar[attrgetter[tuple[Any, ...]]]

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        cls._values = attrgetter(*cls.LAYOUT.value_names)

    @classmethod
    def from_bytes(cls, buffer: bytes) -> Self:
        """Decode from a private copy of the bytes. Raises struct.error if there are fewer than ``LAYOUT.size``."""
        return cls(*cls.LAYOUT.unpack(buffer))

    def to_bytes(self) -> bytes:
        """Encode into ``LAYOUT.size`` bytes, padding zero. Raises struct.error for a value out of its range."""
        return self.LAYOUT.pack(*type(self)._values(self))
