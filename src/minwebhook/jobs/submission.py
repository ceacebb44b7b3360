"""From a script and a caller to a job's spec, and from a stored row back to one after a restart. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache, partial
from sys import intern
from typing import Final

import orjson

from minwebhook.auth.principal import Principal
from minwebhook.jobs.model import DEPENDENCIES, DRIVEN_KINDS, Concurrency, JobSpec
from minwebhook.jobs.record import JobRecord
from minwebhook.sandbox.plan import Surroundings
from minwebhook.scripts.locks import first_lock
from minwebhook.scripts.model import Language
from minwebhook.scripts.requirements import imported_modules
from minwebhook.scripts.retry import RetryPolicy
from minwebhook.scripts.script import Script
from minwebhook.variables.references import may_hold_references
from minwebhook.webhooks.arguments import Arguments
from minwebhook.webhooks.query import RunOptions

#: What makes the specs of runs that differ in their arguments only, and one of them; with the script, the caller and the
#: options, which are kept so that no others get their ids.
_MAKERS: Final[
    dict[tuple[int, int, int, bool], tuple[Script, Principal, RunOptions, Callable[..., JobSpec], JobSpec]]
] = {}
_MAX_MAKERS: Final = 1024
#: What a concurrency key may hold: an argument by name.
_ARGUMENT: Final = re.compile(r"\$args\[([^\[\]]*)\]")
#: Characters of a key, and of an argument in it, that is kept as it is; of longer ones a digest.
_MAX_KEY_CHARACTERS: Final = 1000
_MAX_ARGUMENT_CHARACTERS: Final = 200


def concurrency_of(script: Script, arguments: bytes) -> Concurrency | None:
    """How many of its runs may run at a time, with these arguments (JSON text); None for any number."""
    if not script.concurrent_limit:
        return None
    limit = Concurrency(script.concurrency_key or "", script.concurrent_limit, script.concurrency_window_ms)
    return limit_of(limit, script.workspace_id, f"script/{script.path}", arguments)


def limit_of(limit: Concurrency, workspace: str, usual: str, arguments: bytes) -> Concurrency:
    """A limit with the key of one run.

    That is the one it has, with ``$workspace`` and ``$args[name]`` replaced, which counts the runs of all workspaces; without
    one the ``usual`` one of the workspace. Arguments and keys that are long have a digest in their place.
    """
    key = limit.key
    if not key:
        return limit._replace(key=f"{workspace}/{usual}")
    key = key.replace("$workspace", workspace)
    if "$args[" in key:
        values = orjson.loads(arguments)

        @cache
        def value_of(name: str) -> str:
            value = values.get(name)
            text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
            return _shortened(text, _MAX_ARGUMENT_CHARACTERS)

        key = _ARGUMENT.sub(lambda match: value_of(match[1]), key)
    return limit._replace(key=_shortened(key, _MAX_KEY_CHARACTERS))


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def sent_limit_of(limit: Concurrency, workspace: str, sender: str, usual: str, arguments: bytes) -> Concurrency:
    """The limit of what came with a request: its path and key are what the sender says, so that they count among the runs of
    the ``sender`` (``u/ada``) in the workspace only."""
    made = limit_of(limit, workspace, usual, arguments)
    return made._replace(key=f"preview/{sender}/{workspace}/{made.key}")


def surroundings_of(script: Script) -> Surroundings | None:
    """The fork server that its jobs need; None for the usual one."""
    return None if script.has_network else Surroundings("none")


def script_spec(
    script: Script, principal: Principal, arguments: Arguments, options: RunOptions, *, preprocess: bool
) -> JobSpec:
    """The spec of a run of a deployed script.

    Raises :class:`BadRequest` for a ``retry`` that is none. Whether the arguments fit is looked at before.
    """
    if options.is_kept:
        key = (id(script), id(principal), id(options), preprocess)
        known = _MAKERS.get(key)
        if known is None:
            if len(_MAKERS) >= _MAX_MAKERS:
                _MAKERS.clear()
            maker = _maker(script, principal, options, preprocess=preprocess)
            known = _MAKERS[key] = (script, principal, options, maker, maker(arguments=b"{}"))
        make, template = known[3], known[4]
    else:
        make, template = _maker(script, principal, options, preprocess=preprocess), None
    spec = make(arguments=arguments.text, mask=arguments.mask)
    spec.template = template
    if script.concurrent_limit:
        spec.concurrency, spec.template = concurrency_of(script, arguments.text), None
    if principal.scopes is not None and may_hold_references(arguments.text):
        spec.scopes, spec.template = (
            principal.scopes,
            None,
        )  # for what the arguments name alone: the code acts for its user
    return spec


def _maker(script: Script, principal: Principal, options: RunOptions, *, preprocess: bool) -> Callable[..., JobSpec]:
    """Makes the spec from the arguments and their mask."""
    language = script.language.value
    return partial(
        JobSpec,
        workspace=script.workspace_id,
        kind="script",
        language=language,
        source=script.source,
        created_by=principal.display_name,
        username=principal.username,
        email=principal.email,
        permissioned_as=principal.permissioned_as,
        path=script.path,
        script_hash=script.hash,
        tag=options.tag or script.tag or language,
        priority=script.priority,
        timeout_s=script.timeout_s,
        parent_job=options.parent_job,
        root_job=options.root_job,
        visible_to_owner=not (script.visible_to_runner_only or options.invisible_to_owner),
        dedicated=script.dedicated_worker,
        environment=script.environment,
        preprocess=preprocess,
        cache_ttl_s=script.cache_ttl_s,
        limits=script.limits,
        surroundings=surroundings_of(script),
        retry=script.retry if options.retry is None else RetryPolicy.parse("retry", options.retry),
        crash_attempts=script.crash_attempts,
        lock=script.packages_lock,
        modules=() if script.packages_lock == "" else script.imported_modules,
        owner=principal.owner,
    )


def preview_spec(
    workspace: str,
    principal: Principal,
    *,
    language: Language,
    content: str,
    path: str,
    arguments: bytes,
    tag: str | None,
    timeout_s: float | None,
) -> JobSpec:
    """The spec of a run of code that came with the request."""
    lock = first_lock(language.value, content)
    return JobSpec(
        workspace=workspace,
        kind="preview",
        language=language.value,
        source=content.encode(),
        arguments=arguments,
        created_by=principal.display_name,
        username=principal.username,
        email=principal.email,
        permissioned_as=principal.permissioned_as,
        path=path,
        tag=tag or language.value,
        timeout_s=timeout_s,
        owner=principal.owner,
        scopes=principal.scopes,
        lock=lock,
        modules=imported_modules(content) if lock != "" and language is Language.PYTHON3 else (),
    )


def restored_spec(record: JobRecord, script: Script | None) -> JobSpec | None:
    """The spec of a job that outlived the server; None if its code is gone. Flows look for theirs.

    Texts that thousands of jobs have in common are there once.
    """
    if script is None and record.raw_code is None and record.kind not in DRIVEN_KINDS:
        return None
    return JobSpec(
        workspace=intern(record.workspace),
        kind=intern(record.kind),
        language=intern(record.language),
        source=script.source if script is not None else (record.raw_code or "").encode(),
        arguments=record.arguments or b"{}",
        mask=record.options.mask,
        created_by=intern(record.created_by),
        username=intern(record.permissioned_as.removeprefix("u/")),
        email=intern(record.email),
        permissioned_as=intern(record.permissioned_as),
        path=intern(record.path or ""),
        script_hash=record.script_hash,
        tag=intern(record.tag),
        priority=record.priority,
        timeout_s=record.timeout_s,
        parent_job=record.parent_job,
        root_job=record.root_job,
        visible_to_owner=record.visible_to_owner,
        dedicated=script is not None and script.dedicated_worker,
        environment=script.environment if script is not None else (),
        preprocess=record.options.preprocess,
        cache_ttl_s=record.options.cache_ttl_s,
        limits=script.limits if script is not None else None,
        surroundings=surroundings_of(script) if script is not None else None,
        concurrency=concurrency_of(script, record.arguments or b"{}") if script is not None else None,
        retry=record.options.retry,
        crash_attempts=script.crash_attempts if script is not None else None,
        owner=intern(record.owner or record.email),
        step_id=record.step_id,
        part=record.options.part,
        restarted_from=record.options.restarted_from,
        scopes=record.options.scopes,
        authored=record.options.authored,
        verbatim=record.options.verbatim,
        origin=intern(record.origin),
        imports=record.options.imports,
        lock=_restored_lock(record, script),
        modules=script.imported_modules if script is not None and script.packages_lock != "" else (),
    )


def _restored_lock(record: JobRecord, script: Script | None) -> str | None:
    if record.kind == DEPENDENCIES or record.options.imports:  # what is imported may need packages, too
        return None
    if record.kind in DRIVEN_KINDS:
        return ""
    return script.packages_lock if script is not None else first_lock(record.language, record.raw_code or "")
