"""Values that name others: ``$var:PATH``, ``$res:PATH``, ``$encrypted:TEXT`` and ``$NAME`` of a contextual variable.

A text that is nothing but such a reference is replaced by what it names. Objects are looked into however deep they are,
arrays down to arrays in arrays and of at most 1000 items, as upstream does. What a resource holds is looked into, too.
Everything is bounded: references, resources in resources, and the size of it all, because who sends arguments may be anyone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from minwebhook.child import values
from minwebhook.errors import ApiError, BadRequest, NotFound, PermissionDenied
from minwebhook.variables.model import is_path
from minwebhook.variables.resources import ResourceStore
from minwebhook.variables.store import VariableStore

_VARIABLE: Final = "$var:"
_RESOURCE: Final = "$res:"
_ENCRYPTED: Final = "$encrypted:"

MAX_ARRAY_DEPTH: Final = 2
MAX_ARRAY_ITEMS: Final = 1000
MAX_REFERENCES: Final = 1000
#: Resources that name resources, one in the other.
MAX_NESTING: Final = 20
#: Characters that references may add up to.
MAX_CHARACTERS: Final = 32 * 1024 * 1024


#: Calls a function with an argument, here or elsewhere.
Call: TypeAlias = Callable[[Callable[[str], Any], str], Any]


def directly(function: Callable[[str], Any], argument: str) -> Any:
    """Calls it here."""
    return function(argument)


def may_hold_references(text: bytes) -> bool:
    """Whether JSON text can hold a reference; the look that every job's arguments get."""
    return b'"$' in text or b'"\\u0024' in text


def holds_references(value: Any, contextual: Collection[str]) -> bool:
    """Whether there is a text in a JSON value that would be followed, or would be without the spaces around it."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            text = each.strip()
            if text.startswith((_VARIABLE, _RESOURCE, _ENCRYPTED)) or (text[:1] == "$" and text[1:] in contextual):
                return True
        elif isinstance(each, dict | list):
            waiting.extend(each.values() if isinstance(each, dict) else each)
    return False


@dataclass(slots=True)
class Reader:
    """On whose behalf references are followed. What is found to be secret is told to ``on_secret``."""

    workspace: str
    #: Asked of a domain (``variables``, ``resources``) and a path.
    may_read: Callable[[str, str], bool]
    #: Names and values; asked for when a text begins with ``$``.
    contextual: Callable[[], Mapping[str, str]] = dict
    on_secret: Callable[[str], None] = lambda value: None
    #: Whether sealed texts are opened, which have no path that could be asked for.
    may_unseal: bool = True
    #: The paths of secret variables whose values were read.
    secrets_read: set[str] = field(default_factory=set)


class References:
    """Follows references through the stores."""

    def __init__(self, variables: VariableStore, resources: ResourceStore) -> None:
        self._variables = variables
        self._resources = resources

    def resolve(self, value: Any, reader: Reader) -> Any:
        """``value`` with references replaced; what it holds is changed in place.

        Raises :class:`NotFound` for what is not there or not for this reader, and :class:`BadRequest` when it is too much.
        """
        return _Resolution(self._variables, self._resources, reader).walk(value, 0)

    def resolve_arguments(self, text: bytes, reader_of: Callable[[str], Reader | None], call: Call = directly) -> bytes:
        """The same of the text of a JSON object, each argument for its reader, if it has one; errors name the argument.

        May be called in a thread; ``call`` then calls a function in the loop, where the stores belong.
        """
        budget = _Budget()
        arguments = values.loads(text)
        resolutions: dict[int, _Resolution] = {}  # by reader: what one has found is not for another
        for name, value in arguments.items():
            if (reader := reader_of(name)) is None:
                continue
            resolution = resolutions.get(id(reader))
            if resolution is None:
                resolution = _Resolution(self._variables, self._resources, reader, call, budget)
                resolutions[id(reader)] = resolution
            try:
                arguments[name] = resolution.walk(value, 0)
            except ApiError as error:
                raise type(error)(f"{error.detail}, in the argument {name[:100]!r}") from error
        return values.dumps(arguments).encode()


@dataclass(slots=True)
class _Budget:
    """What may yet be followed."""

    references: int = MAX_REFERENCES
    characters: int = MAX_CHARACTERS


class _Resolution:
    """One walk."""

    def __init__(
        self,
        variables: VariableStore,
        resources: ResourceStore,
        reader: Reader,
        call: Call = directly,
        budget: _Budget | None = None,
    ) -> None:
        self._call = call
        self._names: Mapping[str, str] | None = None
        self._variables = variables
        self._resources = resources
        self._reader = reader
        self._budget = budget or _Budget()
        self._nesting = 0
        #: What was found already, and its size in characters.
        self._found: dict[str, tuple[Any, int]] = {}

    def walk(self, value: Any, array_depth: int) -> Any:
        if isinstance(value, str):
            return self._text(value) if value[:1] == "$" else value
        if isinstance(value, dict):
            for name, member in value.items():
                if isinstance(member, str | dict | list):
                    value[name] = self.walk(member, array_depth)
        elif isinstance(value, list) and array_depth < MAX_ARRAY_DEPTH and len(value) <= MAX_ARRAY_ITEMS:
            for index, member in enumerate(value):
                if isinstance(member, str | dict | list):
                    value[index] = self.walk(member, array_depth + 1)
        return value

    def _text(self, text: str) -> Any:
        if text.startswith((_VARIABLE, _RESOURCE, _ENCRYPTED)):
            self._budget.references -= 1
            if self._budget.references < 0:
                raise BadRequest(f"there are more than {MAX_REFERENCES} references")
            before = self._budget.characters
            known = self._found.get(text)
            value = self._call(self._look_up, text) if known is None else known[0]
            self._budget.characters -= len(value) if known is None and isinstance(value, str) else 0
            if known is not None:
                self._budget.characters -= known[1]
            else:
                self._found[text] = value, before - self._budget.characters
            if self._budget.characters < 0:
                raise BadRequest(f"references add up to more than {MAX_CHARACTERS} characters")
            return value
        if self._names is None:
            self._names = self._reader.contextual()
        return self._names.get(text[1:], text)

    def _look_up(self, text: str) -> Any:
        if text.startswith(_VARIABLE):
            return self._variable(text.removeprefix(_VARIABLE))
        if text.startswith(_RESOURCE):
            return self._resource(text.removeprefix(_RESOURCE))
        if not self._reader.may_unseal:
            raise PermissionDenied("sealed texts ($encrypted:) are opened for tokens with the scope variables:read")
        opened = self._variables.open(self._reader.workspace, text.removeprefix(_ENCRYPTED))
        self._reader.on_secret(opened)
        try:
            value = values.loads(opened)
        except ValueError:
            return opened
        if isinstance(value, str):
            self._reader.on_secret(value)
        return value

    def _variable(self, path: str) -> str:
        found = self._variables.find(self._reader.workspace, path) if is_path(path) else None
        if found is None or not self._reader.may_read("variables", path):
            raise NotFound(f"variable {path[:300]} not found")
        value = self._variables.value(found)
        if found.is_secret:
            self._reader.secrets_read.add(path)
            self._reader.on_secret(value)
        return value

    def _resource(self, path: str) -> Any:
        found = self._resources.find(self._reader.workspace, path) if is_path(path) else None
        if found is None or not self._reader.may_read("resources", path):
            raise NotFound(f"resource {path[:300]} not found")
        if self._nesting >= MAX_NESTING:
            raise BadRequest(f"resource {path} names resources that name resources, more than {MAX_NESTING} deep")
        text = self._resources.value(found)
        self._budget.characters -= len(text)
        self._nesting += 1
        call, self._call = self._call, directly
        value = self.walk(values.loads(text), 0)
        self._call = call
        self._nesting -= 1
        return value
