"""Which endpoints the audit log tells of, and as what: upstream's words where it has them. Pure data.

Who adds a route that changes something adds a line, here or to :data:`NOT_AUDITED`. Runs of jobs are noted when the jobs are
stored (``jobs/store.py``), and reading a secret by who reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from minwebhook.api import (
    approval_pages,
    approvals,
    batch_reruns,
    dead_letters,
    files,
    flows,
    folders,
    groups,
    instance,
    job_cancel,
    jobs,
    login,
    members,
    progress,
    resources,
    script_versions,
    scripts,
    tokens,
    user_states,
    users,
    variables,
    workspaces,
)
from minwebhook.api.endpoint import Call
from minwebhook.audit.record import CREATED, DELETED, EXECUTED, UPDATED

#: Operation and kind of action, by endpoint function.
AUDITED: Final[Mapping[Call, tuple[str, str]]] = {
    tokens.create: ("users.token.create", CREATED),
    tokens.impersonate: ("users.impersonate", CREATED),
    tokens.delete: ("users.token.delete", DELETED),
    tokens.update_scopes: ("users.token.update", UPDATED),
    tokens.update_label: ("users.token.update", UPDATED),
    login.login: ("users.login", EXECUTED),
    login.logout: ("users.logout", EXECUTED),
    login.refresh_token: ("users.token.refresh", UPDATED),
    login.request_password_reset: ("users.request_password_reset", EXECUTED),
    login.reset_password: ("users.setpassword", UPDATED),
    users.create: ("users.create", CREATED),
    users.update: ("users.update", UPDATED),
    users.delete: ("users.delete", DELETED),
    users.set_password: ("users.setpassword", UPDATED),
    users.set_password_of: ("users.setpassword", UPDATED),
    workspaces.create: ("workspaces.create", CREATED),
    workspaces.delete: ("workspaces.delete", DELETED),
    workspaces.archive: ("workspaces.archive", UPDATED),
    workspaces.unarchive: ("workspaces.unarchive", UPDATED),
    workspaces.set_encryption_key: ("workspaces.set_encryption_key", UPDATED),
    workspaces.add_user: ("workspaces.add_user", CREATED),
    members.update: ("users.update", UPDATED),
    members.delete: ("users.delete", DELETED),
    members.leave: ("users.leave", DELETED),
    folders.create: ("folder.create", CREATED),
    folders.update: ("folder.update", UPDATED),
    folders.add_owner: ("folder.update", UPDATED),
    folders.remove_owner: ("folder.update", UPDATED),
    folders.delete: ("folder.delete", DELETED),
    groups.create: ("group.create", CREATED),
    groups.update: ("group.edit", UPDATED),
    groups.add_user: ("group.adduser", UPDATED),
    groups.remove_user: ("group.removeuser", UPDATED),
    groups.delete: ("group.delete", DELETED),
    scripts.create: ("scripts.create", CREATED),
    scripts.archive: ("scripts.archive", DELETED),
    script_versions.archive_version: ("scripts.archive", DELETED),
    script_versions.delete_version: ("scripts.delete", DELETED),
    script_versions.delete: ("scripts.delete", DELETED),
    script_versions.delete_bulk: ("scripts.delete_bulk", DELETED),
    script_versions.update_history: ("scripts.update_history", UPDATED),
    script_versions.toggle_error_handler: ("scripts.toggle_error_handler", UPDATED),
    flows.create: ("flows.create", CREATED),
    flows.update: ("flows.update", UPDATED),
    flows.update_history: ("flows.update_history", UPDATED),
    flows.toggle_error_handler: ("flows.toggle_error_handler", UPDATED),
    flows.archive: ("flows.archive", DELETED),
    flows.delete: ("flows.delete", DELETED),
    workspaces.edit_storage: ("workspaces.edit_large_file_storage_config", UPDATED),
    variables.create: ("variables.create", CREATED),
    variables.update: ("variables.update", UPDATED),
    variables.delete_bulk: ("variables.delete_bulk", DELETED),
    variables.delete: ("variables.delete", DELETED),
    resources.create: ("resources.create", CREATED),
    resources.update: ("resources.update", UPDATED),
    resources.update_value: ("resources.update", UPDATED),
    resources.delete: ("resources.delete", DELETED),
    resources.create_type: ("resource_types.create", CREATED),
    resources.update_type: ("resource_types.update", UPDATED),
    resources.delete_type: ("resource_types.delete", DELETED),
    jobs.delete_completed: ("jobs.delete", DELETED),
    job_cancel.cancel: ("jobs.cancel", DELETED),
    job_cancel.force_cancel: ("jobs.force_cancel", DELETED),
    job_cancel.cancel_persistent: ("jobs.cancel", DELETED),
    job_cancel.cancel_selection: ("jobs.cancel", DELETED),
    approvals.resume: ("jobs.resume", EXECUTED),
    approvals.cancel: ("jobs.disapproval", EXECUTED),
    approvals.resume_flow: ("jobs.resume", EXECUTED),
    approvals.resume_suspended: ("jobs.resume", EXECUTED),
    approval_pages.send: ("jobs.resume", EXECUTED),
    approval_pages.send_signed: ("jobs.resume", EXECUTED),
    dead_letters.redrive: ("jobs.redrive", EXECUTED),
    dead_letters.redrive_all: ("jobs.redrive", EXECUTED),
    batch_reruns.batch_rerun: ("jobs.redrive", EXECUTED),
    dead_letters.discard: ("jobs.discard", DELETED),
    files.delete: ("job_helpers.delete_s3_file", DELETED),
    files.move: ("job_helpers.move_s3_file", UPDATED),
}
#: What changes nothing that is not told of elsewhere: sealing a text, uploads, which jobs and scripts do all the time, and
#: names that are gone; reading the signature of code that is sent; what jobs say of their own progress.
NOT_AUDITED: Final[frozenset[Call]] = frozenset(
    {variables.encrypt, files.upload, files.old_name, user_states.set_user_state, instance.test_smtp}
    | {scripts.infer_schema, progress.set_progress}
)
