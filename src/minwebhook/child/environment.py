"""The environment of a process that runs Python scripts, in which variables are set without setenv(3).

The C library keeps each string that was ever given to setenv(3), in a tree whose nodes lie all over its heap. The fourteen
variables that differ for a job cost copies of some thirty pages, which its caller waited for. So the fork server lays out an
environment once in which the usual variables have room to grow, all in one page, and its children write there.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from typing import Final

from minwebhook.child.variables import USUAL

#: Room for name, value and the NUL behind it; a variable that needs more is set as any other.
_ROOM_BYTES: Final = 160

#: All of them, as frames carry them.
USUAL_VARIABLES: Final = [f"{name}={value}".encode() for name, value in USUAL.items()]


class Environment:
    """What is set, as far as jobs have said so."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}
        #: Where ``os.environ`` keeps its variables.
        self._data: dict[bytes, bytes] = getattr(os.environ, "_data", {})
        #: Where those begin that are still the ones laid out.
        self._places: dict[bytes, int] = {}
        self._room = memoryview(bytearray())
        self._pointers: ctypes.Array[ctypes.c_void_p] | None = None

    def lay_out(self) -> None:
        """Replaces what is set by the usual variables, with room to grow. Before any thread, once for a process.

        Where it cannot be done the usual variables are set, and grow, as others do.
        """
        os.environ.clear()
        try:
            environ = ctypes.c_void_p.in_dll(ctypes.PyDLL(None), "environ")
        except ValueError:
            self.set(USUAL_VARIABLES)
            return
        room = (ctypes.c_char * (_ROOM_BYTES * len(USUAL_VARIABLES)))()
        pointers = (ctypes.c_void_p * (len(USUAL_VARIABLES) + 1))()
        for number, variable in enumerate(USUAL_VARIABLES):
            name, _, value = variable.partition(b"=")
            place = number * _ROOM_BYTES
            pointers[number] = ctypes.addressof(room) + place
            self._places[name] = place
            self._known[name] = self._data[name] = value
        self._room = memoryview(room).cast("B")
        self._pointers = pointers
        for number, variable in enumerate(USUAL_VARIABLES):
            self._write(number * _ROOM_BYTES, variable)
        environ.value = ctypes.addressof(pointers)

    def set(self, variables: Iterable[bytes]) -> None:
        """Sets what differs from the job before; each is ``name=value``."""
        known, data, places = self._known, self._data, self._places
        for variable in variables:
            name, _, value = variable.partition(b"=")
            old = known.get(name)
            if old == value:
                continue
            known[name] = value
            # A script before may have set it by itself: then the C library has its own copy.
            if name in places and len(variable) < _ROOM_BYTES and data.get(name) is old:
                self._write(places[name], variable)
                data[name] = value
            else:
                places.pop(name, None)
                os.environb[name] = value

    def _write(self, place: int, variable: bytes) -> None:
        end = place + len(variable)
        self._room[place:end] = variable
        self._room[end] = 0
