"""JSON Schemas of users, workspaces, folders and groups. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from minwebhook.api.parameters import BOOLEAN, TEXT, TIME, Schema
from minwebhook.api.records import array, described, nullable, record
from minwebhook.auth.passwords import MAX_LENGTH, MIN_LENGTH

_FLAG: Final[Schema] = {"type": ["boolean", "null"]}
_TEXT: Final[Schema] = {"type": ["string", "null"], "maxLength": 10_000, "pattern": "^[^\\u0000]*$"}
_EMAIL: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9._+-]{1,60}@[A-Za-z0-9.-]{1,60}$"}
_PASSWORD: Final[Schema] = {"type": "string", "minLength": MIN_LENGTH, "maxLength": MAX_LENGTH}
_NAME: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,100}$"}
_USERNAME: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,99}$"}
_WORKSPACE_ID: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,49}$"}
_HOLDER: Final[Schema] = {"type": "string", "pattern": "^[ug]/[A-Za-z0-9_.@-]{1,100}$"}
_OWNERS: Final = described(
    {"type": ["array", "null"], "items": _HOLDER, "maxItems": 1000}, "`u/<user>` and `g/<group>`."
)
_PERMS: Final = described(
    {"type": ["object", "null"], "patternProperties": {_HOLDER["pattern"]: BOOLEAN}, "additionalProperties": False},
    "Who else: true may change what is in it, false may look and run.",
)
_MEMBER: Final[Mapping[str, Schema]] = {
    "workspace_id": TEXT,
    "email": TEXT,
    "username": TEXT,
    "is_admin": BOOLEAN,
    "operator": described(BOOLEAN, "May run and look, not change."),
    "disabled": BOOLEAN,
    "created_at": TIME,
    "role": described(TEXT, "`admin`, `developer` or `operator`."),
    "name": nullable(TEXT),
}
_OF_TYPE: Final = record({"type": described(TEXT, "`S3Storage` or `FilesystemStorage`.")})
_STORAGES: Final = described(
    {
        **record({**_OF_TYPE["properties"], "secondary_storage": {"type": "object", "additionalProperties": _OF_TYPE}}),
        "type": ["object", "null"],
    },
    "Null if the workspace has no storage of its own.",
)


def _example(schema: Schema, *examples: object) -> Schema:
    return {**schema, "examples": list(examples)}


IDENTITY: Final[Mapping[str, Schema]] = {
    "Login": _example(
        record({"email": _EMAIL, "password": {"type": "string", "minLength": 1, "maxLength": 10_000}}),
        {"email": "ada@localhost", "password": "correct horse battery"},
    ),
    "ForgottenPassword": _example(record({"email": _EMAIL}), {"email": "ada@localhost"}),
    "PasswordReset": _example(
        record({"token": {"type": "string", "minLength": 1, "maxLength": 10_000}, "new_password": _PASSWORD}),
        {"token": "a" * 32, "new_password": "correct horse battery"},
    ),
    "NewUser": _example(
        record(
            {"email": _EMAIL},
            optional={"password": _PASSWORD, "super_admin": _FLAG, "name": _TEXT},
        ),
        {"email": "grace@localhost", "password": "correct horse battery", "name": "Grace"},
    ),
    "UserUpdate": _example(
        record({}, optional={"is_super_admin": _FLAG, "disabled": _FLAG, "name": _TEXT}), {"name": "Ada L."}
    ),
    "Password": _example(record({"password": _PASSWORD}), {"password": "correct horse battery"}),
    "UsernameIn": _example(record({"id": _WORKSPACE_ID, "username": _USERNAME}), {"id": "demo", "username": "admin"}),
    "NewKey": _example(
        record(
            {"new_key": {"type": "string", "pattern": "^[A-Za-z0-9]{64}$"}},
            optional={"skip_reencrypt": described(_FLAG, "Nothing is encrypted with this key here.")},
        ),
        {"new_key": "k" * 64},
    ),
    "VariablePaths": _example(
        record({"paths": {"type": "array", "items": TEXT, "maxItems": 1000}}), {"paths": ["u/admin/none"]}
    ),
    "TestMail": _example(
        record(
            {"to": _EMAIL},
            optional={
                "smtp": {
                    **record(
                        {"host": TEXT, "port": {"type": "integer", "minimum": 1, "maximum": 65535}},
                        optional={
                            **dict.fromkeys(("username", "password", "from"), _TEXT),
                            **dict.fromkeys(("tls_implicit", "disable_tls"), _FLAG),
                        },
                    ),
                    "type": ["object", "null"],
                }
            },
        ),
        {"to": "ada@localhost"},
    ),
    "User": record(
        {
            "email": TEXT,
            "login_type": TEXT,
            "super_admin": BOOLEAN,
            "devops": BOOLEAN,
            "verified": BOOLEAN,
            "name": nullable(TEXT),
            "company": nullable(TEXT),
            "username": TEXT,
            "disabled": BOOLEAN,
            "first_time_user": BOOLEAN,
        }
    ),
    "Caller": record(
        {
            **_MEMBER,
            "is_super_admin": BOOLEAN,
            "groups": array(TEXT),
            "folders_read": described(array(TEXT), "Folders whose content the caller may see and run."),
            "folders": described(array(TEXT), "Folders whose content the caller may change."),
            "folders_owners": described(array(TEXT), "Folders that the caller may change."),
            "is_service_account": BOOLEAN,
            "non_member": described(BOOLEAN, "A super admin who is no member."),
        }
    ),
    "Member": record(dict(_MEMBER)),
    "Username": _example(record({"username": _USERNAME}), {"username": "ada"}),
    "NewMember": _example(
        record(
            {"email": _EMAIL},
            optional={"username": nullable(_USERNAME), "is_admin": _FLAG, "operator": _FLAG},
        ),
        {"email": "grace@localhost", "username": "grace"},
    ),
    "MemberUpdate": _example(
        record({}, optional={"is_admin": _FLAG, "operator": _FLAG, "disabled": _FLAG}), {"operator": False}
    ),
    "Workspace": record({"id": TEXT, "name": TEXT, "owner": TEXT, "deleted": described(BOOLEAN, "It is archived.")}),
    "WorkspaceSettings": record(
        {
            "workspace_id": TEXT,
            "name": TEXT,
            "large_file_storage": _STORAGES,
            **{key: {"type": "null"} for key in ("webhook", "deploy_to", "error_handler", "default_app", "color")},
        }
    ),
    "PublicWorkspaceSettings": record({"workspace_id": TEXT, "large_file_storage": _STORAGES}),
    "Runnable": record(
        {
            "workspace": TEXT,
            "endpoint_async": described(TEXT, "Below `/api`."),
            "endpoint_sync": described(TEXT, "Below `/api`."),
            "summary": TEXT,
            "description": TEXT,
            "schema": {"type": ["object", "null"]},
            "kind": described(TEXT, "`script` or `flow`."),
            "path": TEXT,
        }
    ),
    "OwnWorkspaces": record(
        {
            "email": TEXT,
            "workspaces": array(record({"id": TEXT, "name": TEXT, "username": TEXT, "color": nullable(TEXT)})),
        }
    ),
    "NewWorkspace": _example(
        record(
            {"id": _WORKSPACE_ID, "name": {"type": "string", "minLength": 1, "maxLength": 10_000}},
            optional={"username": described(nullable(_USERNAME), "Of the caller, who is its admin.")},
        ),
        {"id": "lab", "name": "The laboratory"},
    ),
    "WorkspaceId": _example(record({"id": {"type": "string", "minLength": 1, "maxLength": 10_000}}), {"id": "demo"}),
    "Folder": record(
        {
            "workspace_id": TEXT,
            "name": TEXT,
            "display_name": TEXT,
            "summary": nullable(TEXT),
            "owners": array(TEXT),
            "extra_perms": {"type": "object", "additionalProperties": BOOLEAN},
            "created_by": TEXT,
            "edited_at": TIME,
        }
    ),
    "NewFolder": _example(
        record(
            {"name": _NAME},
            optional={"owners": _OWNERS, "extra_perms": _PERMS, "display_name": _TEXT, "summary": _TEXT},
        ),
        {"name": "team", "owners": ["u/admin"], "extra_perms": {"g/all": False}},
    ),
    "FolderUpdate": _example(
        record({}, optional={"owners": _OWNERS, "extra_perms": _PERMS, "display_name": _TEXT, "summary": _TEXT}),
        {"summary": "What the team shares"},
    ),
    "Owner": _example(record({"owner": _HOLDER}), {"owner": "u/ada"}),
    "Group": record(
        {
            "workspace_id": TEXT,
            "name": TEXT,
            "summary": nullable(TEXT),
            "members": array(TEXT),
            "extra_perms": {"type": "object"},
        }
    ),
    "NewGroup": _example(record({"name": _NAME}, optional={"summary": _TEXT}), {"name": "team"}),
    "GroupUpdate": _example(record({}, optional={"summary": _TEXT}), {"summary": "Who is on call"}),
}
