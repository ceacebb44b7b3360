"""All fork servers: one for each pair of network policy and installed packages that scripts ask for.

The first one, for scripts that need nothing special, runs as long as the server. Others are started by the first job that
needs them and ended when too many are there, the one unused for longest first; none is ended while a job of it runs.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio

from minwebhook.errors import SandboxError
from minwebhook.runtimes.demand import Room
from minwebhook.runtimes.language import RUNTIMES, Runtime
from minwebhook.runtimes.pool import ChildPool
from minwebhook.runtimes.programs import Programs
from minwebhook.runtimes.zygote import Zygote
from minwebhook.sandbox.plan import Surroundings

logger = logging.getLogger(__name__)

#: The end of a short job asks for the successor of its child; one that runs longer than this is not waited for.
_REPLACED_BY_S: Final = 0.05
_LOOK_AGAIN_S: Final = 5.0

#: Makes a fork server (not started yet) for these surroundings; the number tells those that run at one time apart.
MakeZygote = Callable[[Surroundings, int], Zygote]


class Family:
    """One fork server and its children that wait for jobs, by runtime."""

    def __init__(
        self,
        zygote: Zygote,
        number: int,
        *,
        keeps_idle: bool,
        target: int,
        room: Room | None,
        heavy_idle_s: float,
        on_taken: Callable[[], None],
    ) -> None:
        """Of heavy runtimes no process waits before the first is needed, nor when none was for ``heavy_idle_s``."""
        self.zygote: Final = zygote
        self.number: Final = number
        #: Jobs that have or wait for a child of it.
        self.jobs = 0
        self.pools: Final = {
            name: ChildPool(
                zygote,
                name,
                idle_target=min(runtime.idle, target) if keeps_idle and not runtime.heavy else 0,
                target=1 if runtime.heavy else target,
                idle_s=heavy_idle_s if runtime.heavy else math.inf,
                room=room,
                each_bytes=runtime.waiting_bytes,
                on_taken=on_taken,
            )
            for name, runtime in RUNTIMES.items()
        }

    def fail(self, reason: str) -> None:
        """There is no fork server, and there will be none."""
        for pool in self.pools.values():
            pool.fail(reason)

    def close(self) -> None:
        """Ends the waiting children."""
        for pool in self.pools.values():
            pool.close()


class Fleet:
    """The families by what their scripts need."""

    def __init__(
        self,
        usual: tuple[Surroundings, Zygote],
        make_zygote: MakeZygote,
        *,
        target: int,
        max_families: int,
        room: Room | None = None,
        heavy_idle_s: float = math.inf,
        programs: Programs | None = None,
        afterwards: Mapping[str, Callable[[], Awaitable[None]]] | None = None,
    ) -> None:
        """``usual`` is the fork server that runs already and is never ended.

        Of a runtime that nobody uses as many processes wait there as it says (language.py), elsewhere none; after the first
        job ``target``, and as many more as jobs come and ``room`` lets them. Without ``room`` there are never more.
        At most ``max_families`` run at once, more only as long as jobs of all of them run. Of heavy runtimes no process
        waits before the first is needed, then one, and none again after ``heavy_idle_s`` without a job.
        ``afterwards``, by runtime, is done once, when its first process is there.
        """
        self._afterwards = dict(afterwards or {})
        self._heavy_idle_s = heavy_idle_s
        self._programs = programs or Programs({})
        surroundings, zygote = usual
        self.usual: Final = surroundings
        self._make_zygote = make_zygote
        self._target = target
        self._max = max_families
        self._room = room
        self._taken = trio.Event()  # something was taken since the pools were looked at
        self._first = self._make_family(zygote, 0, keeps_idle=True)
        self._others: OrderedDict[Surroundings, Family] = OrderedDict()  # the one used last at the end
        self._wanted, self._starts = trio.open_memory_channel[tuple[Surroundings, Family]](float("inf"))

    @property
    def python_version(self) -> str:
        """That of the interpreter of scripts."""
        return self._first.zygote.version

    @property
    def is_running(self) -> bool:
        """Whether the usual fork server can be asked for children."""
        return self._first.zygote.is_running

    @property
    def families(self) -> list[Family]:
        """All that run."""
        return [self._first, *self._others.values()]

    def require(self, language: str) -> None:
        """Raises :class:`SandboxError` if the program is not there that runs this language."""
        if reason := self._programs.missing(language):
            raise SandboxError(reason)

    def packages_in_use(self) -> set[str]:
        """The directories of packages that fork servers have."""
        return {surroundings.packages for surroundings in self._others}

    def family(self, surroundings: Surroundings | None) -> Family:
        """The family for these surroundings (None: the usual ones), started if it does not run."""
        if surroundings is None or surroundings == self.usual:
            return self._first
        family = self._others.get(surroundings)
        if family is not None:
            self._others.move_to_end(surroundings)
            return family
        self._make_room()
        taken = {family.number for family in self.families}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        family = self._make_family(self._make_zygote(surroundings, number), number, keeps_idle=False)
        self._others[surroundings] = family
        self._wanted.send_nowait((surroundings, family))
        return family

    def _make_family(self, zygote: Zygote, number: int, *, keeps_idle: bool) -> Family:
        return Family(
            zygote,
            number,
            keeps_idle=keeps_idle,
            target=self._target,
            room=self._room,
            heavy_idle_s=self._heavy_idle_s,
            on_taken=self._note_taken,
        )

    def _note_taken(self) -> None:
        self._taken.set()

    def refill(self) -> None:
        """Has the children of the usual family started."""
        for pool in self._first.pools.values():
            pool.refill()

    def expect(self, runtime: Runtime, surroundings: Surroundings | None = None) -> None:
        """A script is being deployed that this runtime will run there: has its first process started, if that takes long."""
        if runtime.heavy:
            self.family(surroundings).pools[runtime.name].expect()

    async def settle(self, runtime: Runtime) -> None:
        """Waits until a process of a runtime whose processes take long to start is there, if one is being started."""
        if runtime.heavy:
            await self._first.pools[runtime.name].settle()

    def stop(self) -> None:
        """Ends all fork servers, and with them every child, for good."""
        for family in self.families:
            family.zygote.stop()

    async def run(self) -> None:
        """Runs the fork servers that are asked for, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tend, nursery)
                async for surroundings, family in self._starts:
                    nursery.start_soon(self._keep, surroundings, family)
        finally:
            for family in self.families:
                family.close()

    async def _tend(self, nursery: trio.Nursery) -> None:
        """Keeps the pools as large as they should be, also while no job ends: those that run long have taken children, too.

        A server with nothing to do sleeps.
        """
        pause_s = math.inf
        while True:
            with trio.move_on_after(pause_s):
                await self._taken.wait()
            if self._taken.is_set():
                self._taken = trio.Event()
                await trio.sleep(_REPLACED_BY_S)
            pools = [pool for family in self.families for pool in family.pools.values()]
            for name in [*self._afterwards]:
                if any(family.pools[name].has_started for family in self.families):
                    nursery.start_soon(self._afterwards.pop(name))
            are_large = [pool.tend() for pool in pools]
            pause_s = _LOOK_AGAIN_S if any(are_large) else math.inf

    async def _keep(self, surroundings: Surroundings, family: Family) -> None:
        try:
            await family.zygote.run()
        except SandboxError as error:
            logger.error("cannot start a fork server for %s: %s", surroundings, error)
            if self._others.get(surroundings) is family:
                del self._others[surroundings]
            family.fail(str(error))

    def _make_room(self) -> None:
        for surroundings, family in list(self._others.items()):
            if len(self._others) + 1 < self._max:
                return
            if not family.jobs:
                self._end(surroundings, family)

    def _end(self, surroundings: Surroundings, family: Family) -> None:
        del self._others[surroundings]
        family.close()
        family.zygote.stop()
