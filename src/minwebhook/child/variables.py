"""The environment variables that every job has, with the values they usually have.

Official clients read these names; all exist, even if empty. A waiting child sets them before its job arrives, so that then
only those that differ cost something (jobs/environment.py says which do).
"""

from __future__ import annotations

from typing import Final

USUAL: Final = {
    "WM_WORKSPACE": "",
    "WM_TOKEN": "",
    "WM_EMAIL": "",
    "WM_USERNAME": "",
    "WM_BASE_URL": "",
    "BASE_URL": "",
    "BASE_INTERNAL_URL": "",
    "WM_JOB_ID": "",
    "WM_JOB_PATH": "",
    "WM_FLOW_JOB_ID": "",
    "WM_ROOT_FLOW_JOB_ID": "",
    "WM_ROOT_JOB_ID": "",
    "WM_FLOW_PATH": "",
    "WM_FLOW_STEP_ID": "",
    "WM_SCHEDULE_PATH": "",
    "WM_SCHEDULED_FOR": "",
    "WM_PERMISSIONED_AS": "",
    "WM_STATE_PATH": "",
    "WM_OBJECT_PATH": "",
    "WM_WORKER_GROUP": "default",
    "WM_RUNNABLE_ID": "",
    "WM_END_USER_EMAIL": "",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
}
