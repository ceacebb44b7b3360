"""From a run of a flow, and from what its engine wants started, to the specs of jobs."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import orjson

from minwebhook.auth.principal import Principal
from minwebhook.auth.rights import may_read
from minwebhook.auth.store import AuthStore
from minwebhook.errors import NotFound
from minwebhook.flows.events import Run, StartJob
from minwebhook.flows.expressions import Path, parse_plain, references_of, verbatim_key
from minwebhook.flows.model import (
    FlowModule,
    FlowStep,
    FlowValue,
    ForloopFlow,
    Javascript,
    RawScript,
    ScriptStep,
    Static,
    WhileloopFlow,
)
from minwebhook.flows.results import ITERATION
from minwebhook.flows.store import FlowStore, FlowVersion
from minwebhook.jobs.model import FLOW, FLOW_PREVIEW, IDENTITY, Concurrency, JobSpec, copied
from minwebhook.jobs.shared import turn_of
from minwebhook.jobs.submission import concurrency_of, limit_of, sent_limit_of, surroundings_of
from minwebhook.scripts.model import Language, entry_points
from minwebhook.scripts.requirements import imported_modules
from minwebhook.scripts.script import Script
from minwebhook.scripts.store import ScriptStore
from minwebhook.webhooks.arguments import Arguments
from minwebhook.webhooks.query import RunOptions

#: Member of the definition of a preview: what the scripts within it import, path to hash, by module. Never the sender's.
STEP_IMPORTS: Final = "step_imports"
#: The tag of flows that have none, and whose steps have their own.
FLOW_TAG: Final = "flow"


def flow_spec(
    version: FlowVersion, principal: Principal, arguments: Arguments, options: RunOptions, *, preprocess: bool
) -> JobSpec:
    """The spec of a run of a deployed flow."""
    return JobSpec(
        workspace=version.workspace_id,
        kind=FLOW,
        language="",
        source=b"",
        arguments=arguments.text,
        mask=arguments.mask,
        created_by=principal.display_name,
        username=principal.username,
        email=principal.email,
        permissioned_as=principal.permissioned_as,
        path=version.path,
        script_hash=version.id,
        tag=options.tag or version.tag or FLOW_TAG,
        priority=version.flow.priority,
        timeout_s=version.timeout_s,
        parent_job=options.parent_job,
        root_job=options.root_job,
        visible_to_owner=not (version.visible_to_runner_only or options.invisible_to_owner),
        preprocess=preprocess,
        cache_ttl_s=version.flow.cache_ttl_s,
        concurrency=flow_limit(version.flow, version.workspace_id, version.path, arguments.text),
        owner=principal.owner,
        scopes=principal.scopes,  # for what the arguments name, and what is made of them
    )


def flow_limit(flow: FlowValue, workspace: str, path: str, arguments: bytes) -> Concurrency | None:
    """How many runs of a flow may run at a time, with these arguments (JSON text); None for any number."""
    limit = flow.concurrency
    return None if limit is None else limit_of(limit, workspace, f"flow/{path}", arguments)


def sent_flow_limit(flow: FlowValue, workspace: str, sender: str, path: str, arguments: bytes) -> Concurrency | None:
    """The same of a flow that came with a request of the ``sender`` (``u/ada``)."""
    limit = flow.concurrency
    return None if limit is None else sent_limit_of(limit, workspace, sender, f"flow/{path}", arguments)


def flow_preview_spec(
    workspace: str,
    principal: Principal,
    flow: FlowValue,
    value: bytes,
    *,
    path: str,
    arguments: bytes,
    tag: str | None,
) -> JobSpec:
    """The spec of a run of a flow that came with the request, as JSON text."""
    return JobSpec(
        workspace=workspace,
        kind=FLOW_PREVIEW,
        language="",
        source=value,
        arguments=arguments,
        created_by=principal.display_name,
        username=principal.username,
        email=principal.email,
        permissioned_as=principal.permissioned_as,
        path=path,
        tag=tag or FLOW_TAG,
        priority=flow.priority,
        concurrency=sent_flow_limit(flow, workspace, principal.permissioned_as, path, arguments),
        owner=principal.owner,
        scopes=principal.scopes,
    )


class StepSpecs:
    """Makes the specs of the jobs of flows: a flow's jobs have the rights of whoever started it, those of a flow that came
    with a request within the scopes of its token. References in arguments are the author's or the sender's (:func:`_authored`).
    """

    def __init__(self, scripts: ScriptStore, flows: FlowStore, auth: AuthStore) -> None:
        self._scripts = scripts
        self._flows = flows
        self._auth = auth

    def make(self, flow: JobSpec, flow_id: UUID, command: StartJob, *, shared: UUID | None = None) -> JobSpec:
        """The spec of a job of the flow. ``shared``: the flow whose steps have a directory in common.

        Raises :class:`NotFound` for a script or flow that is not there, :class:`BadRequest` for arguments that a script
        refuses.
        """
        spec = self._make(flow, flow_id, command)
        if shared is not None and not spec.is_driven:
            _share(spec, shared)
        return spec

    def _make(self, flow: JobSpec, flow_id: UUID, command: StartJob) -> JobSpec:
        module = command.module
        base = copied(flow)
        base.kind = FLOW_PREVIEW
        base.language = ""
        base.source = b""
        base.arguments = command.arguments
        base.path = f"{flow.path}/{command.path}" if flow.path else ""
        base.script_hash = None
        base.priority = module.priority if module.priority is not None else flow.priority
        base.timeout_s = command.timeout_s
        base.parent_job = flow_id
        base.root_job = flow.root_job or flow_id
        base.mask = b""
        base.preprocess = False
        base.cache_ttl_s = None
        base.concurrency = None
        base.step_id = (command.loop or module).id
        base.flow_path = path_around(flow)
        base.part = None
        base.restarted_from = None
        base.is_preprocessor = False
        if command.is_preprocessor:  # the flow's tag is that of its steps
            base.tag = FLOW_TAG
        base.authored = _authored(flow, command)
        base.verbatim = flow.verbatim or flow.preprocess
        if command.run is Run.LEVEL:
            base.part = (module.id, command.inner, command.index)
            return base
        if command.run is Run.NOTHING:
            base.kind, base.source = IDENTITY, (b"1" if command.is_success else b"0") + command.result
            return base
        value = module.value
        if isinstance(value, FlowStep):
            return self._flow(base, value, module)
        if isinstance(value, ScriptStep):
            return self._script(base, value, module, is_preprocessor=command.is_preprocessor)
        assert isinstance(value, RawScript)  # noqa: S101 - the others were before
        return self._inline(base, value, module, is_preprocessor=command.is_preprocessor)

    def restore(
        self, flow: JobSpec, spec: JobSpec, module: FlowModule, *, is_preprocessor: bool, shared: UUID | None
    ) -> None:
        """Gives the stored job of a module back what its row does not tell."""
        spec.flow_path = path_around(flow)
        if isinstance(module.value, RawScript) and spec.kind == "preview":
            spec.is_sent = flow.is_sent
            spec.concurrency = _step_limit(spec, module.value)
            spec.step_imports = flow.step_imports
            self._equip(spec, module.value, module)
        if not spec.is_driven:
            spec.is_preprocessor = is_preprocessor and _has_functions(spec)
            if shared is not None:
                _share(spec, shared)

    def _check(self, spec: JobSpec, path: str) -> None:
        principal = self._auth.principal_of(spec.email, spec.workspace)
        if not principal.is_admin and not may_read(principal, path):
            raise NotFound(f"no script or flow that {principal.username} may run is at {path}")

    def _flow(self, spec: JobSpec, value: FlowStep, module: FlowModule) -> JobSpec:
        version = self._flows.deployed(spec.workspace, value.path)
        self._check(spec, version.path)
        spec.kind, spec.path, spec.script_hash = FLOW, version.path, version.id
        spec.concurrency = flow_limit(version.flow, spec.workspace, version.path, spec.arguments)
        spec.tag = _tag(spec, version.tag or FLOW_TAG)
        spec.timeout_s = spec.timeout_s if spec.timeout_s is not None else version.timeout_s
        spec.cache_ttl_s = module.cache_ttl_s or version.flow.cache_ttl_s
        return spec

    def _script(self, spec: JobSpec, value: ScriptStep, module: FlowModule, *, is_preprocessor: bool) -> JobSpec:
        script: Script | None
        if value.hash is not None:
            script = self._scripts.find_by_hash(spec.workspace, value.hash)
            if script is None or script.deleted:
                raise NotFound(f"script not found at hash {value.hash & (1 << 64) - 1:016x}")
        else:
            script = self._scripts.deployed(spec.workspace, value.path)
        self._check(spec, script.path)
        script.check_arguments(spec.arguments)
        spec.kind, spec.language, spec.source = "script", script.language.value, script.source
        spec.path, spec.script_hash = script.path, script.hash
        spec.tag = _tag(spec, value.tag_override or script.tag or spec.language)
        spec.priority = spec.priority if spec.priority is not None else script.priority
        spec.timeout_s = spec.timeout_s if spec.timeout_s is not None else script.timeout_s
        spec.dedicated = script.dedicated_worker
        spec.environment = script.environment
        spec.cache_ttl_s = module.cache_ttl_s or script.cache_ttl_s
        spec.limits = script.limits
        spec.surroundings = surroundings_of(script)
        spec.concurrency = concurrency_of(script, spec.arguments)
        spec.crash_attempts = script.crash_attempts
        spec.lock = script.packages_lock
        spec.modules = () if script.packages_lock == "" else script.imported_modules
        spec.preprocess = module.apply_preprocessor and bool(script.has_preprocessor)
        spec.is_preprocessor = is_preprocessor and _has_functions(spec)
        return spec

    def _equip(self, spec: JobSpec, value: RawScript, module: FlowModule) -> None:
        """What a script within a flow imports."""
        imports = (spec.step_imports or {}).get(module.id, {})
        spec.imports = tuple(imports.items())
        spec.lock = self._scripts.lock_with(spec.workspace, value.lock, imports)
        has_modules = spec.lock != "" and value.language is Language.PYTHON3
        spec.modules = imported_modules(value.content) if has_modules else ()

    def _inline(self, spec: JobSpec, value: RawScript, module: FlowModule, *, is_preprocessor: bool) -> JobSpec:
        spec.kind, spec.language = "preview", value.language.value
        spec.source = value.content.encode()
        spec.preprocess = module.apply_preprocessor and "preprocessor" in (
            entry_points(value.language, value.content) or ()
        )
        spec.is_preprocessor = is_preprocessor and _has_functions(spec)
        spec.concurrency = _step_limit(spec, value)
        spec.tag = _tag(spec, value.tag or spec.language)
        spec.cache_ttl_s = module.cache_ttl_s
        self._equip(spec, value, module)
        return spec


def _authored(flow: JobSpec, command: StartJob) -> tuple[str, ...] | None:
    """Which arguments of a job of a flow its author wrote: references in them are followed with the rights of the flow's user,
    those in all others within the scopes of the sender. What an expression makes may hold anything the sender sent, unless it
    only hands on what the author wrote. None if it makes no difference, or the sender has sent the flow as well.
    """
    if not (flow.scopes or flow.preprocess or flow.verbatim) or (flow.kind != FLOW and flow.authored is None):
        return None
    own, module = flow.authored or (), command.module
    if command.run is Run.LEVEL:
        return _own_of_iteration(own, module)
    if command.loop is not None:
        own = _own_of_iteration(own, command.loop)
    if command.is_preprocessor or module.pass_flow_input_directly:
        return own
    inputs = module.inputs or {}
    named = references_of(inputs)
    return tuple(
        name
        for name, each in inputs.items()
        if isinstance(each, Static)
        or name in named
        or (isinstance(each, Javascript) and _hands_on(each.expr, flow, own))
    )


def _own_of_iteration(own: tuple[str, ...], module: FlowModule) -> tuple[str, ...]:
    """Which arguments of an iteration, or a branch, the author wrote, if these of the flow are."""
    loop = module.value
    if not isinstance(loop, ForloopFlow | WhileloopFlow):
        return own
    own = tuple(name for name in own if not name.startswith(ITERATION))  # a loop moves them
    return (*own, ITERATION) if isinstance(loop, ForloopFlow) and isinstance(loop.iterator, Static) else own


def _hands_on(expression: str, flow: JobSpec, own: tuple[str, ...]) -> bool:
    """Whether an expression is a part of the flow's environment, or of one of these arguments, and nothing else."""
    plain = parse_plain(expression.strip())
    if not isinstance(plain, Path) or not plain.segments:
        return False
    name, *below = (key for key, _ in plain.segments)
    if plain.root == "flow_env":
        return True
    if plain.root != "flow_input" or name not in own:
        return False
    # "a.b" may as well be the name of one argument, which is another one's.
    return not below or verbatim_key(expression.strip(), orjson.loads(flow.arguments)) is None


def _share(spec: JobSpec, flow_id: UUID) -> None:
    """A step that shares a directory with others waits for its turn among them."""
    spec.shared, spec.concurrency = flow_id, turn_of(flow_id)


def path_around(flow: JobSpec) -> str:
    """The path of the flow that a job of this level belongs to."""
    return flow.flow_path if flow.part is not None else flow.path


def _step_limit(spec: JobSpec, value: RawScript) -> Concurrency | None:
    limit, usual = value.concurrency, f"script/{spec.path}"
    if limit is None:
        return None
    if spec.is_sent:
        return sent_limit_of(limit, spec.workspace, spec.permissioned_as, usual, spec.arguments)
    return limit_of(limit, spec.workspace, usual, spec.arguments)


def _has_functions(spec: JobSpec) -> bool:
    """Whether its code has a function ``preprocessor`` to call; else it is one itself, as a whole."""
    return entry_points(Language(spec.language), "") is not None


def _tag(flow: JobSpec, own: str) -> str:
    """A flow's own tag is that of all its jobs."""
    is_usual = flow.tag in (FLOW_TAG, f"{FLOW_TAG}-{flow.workspace}")
    return own if is_usual else flow.tag
