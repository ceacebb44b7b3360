"""Probes that are bash scripts of their own. Each writes its outcome into result.json, by the functions of :data:`PRELUDE`."""

from __future__ import annotations

from typing import Final

#: ``$facts NAME`` gives a text or number of the facts; a probe ends with ``say``.
PRELUDE: Final = r"""
say() { printf '["%s", "%s"]' "$1" "$(printf %s "$2" | tr '"\\\n\t' "''  " | head -c 400)" > result.json; exit 0; }
fact() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" args.json; }
contained() {
  if test "$(fact rung)" = landlock; then  # the kernel refuses signals to others
    for pid in "$(fact server_pid)" "$(fact zygote_pid)"; do
      LC_ALL=C kill -0 "$pid" 2>&1 | grep -q "not permitted" || return 1
    done
    return 0
  fi
  test "$$" -lt 64 && test ! -e /etc/shadow && test "$(id -u)" != 0 || return 1
  # the uid that the kernel counts by
  test "$(awk -v u="$(id -u)" '$1 <= u && u < $1 + $3 { print $2 + u - $1 }' /proc/self/uid_map)" != 0 ||
    test "$(fact root_is_root)" = false
}
set +e
"""

#: Name -> (what it tries, how it is judged, network policy, the script).
SCRIPTS: Final = {
    "bash_password_hashes": (
        "reads password hashes with cat",
        "report",
        "",
        'text="$(cat /etc/shadow /etc/gshadow /proc/1/root/etc/shadow 2>&1)"\n'
        'case "$text" in *root:*) say "got through" "read";; *) say held "$text";; esac',
    ),
    "bash_environments": (
        "reads the environment of every process with cat",
        "report",
        "",
        "text=\"$(cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | rev)\"\n"
        'case "$text" in *"$(fact canary)"*) say "got through" "a secret of the server";; *) say held "no secret";; esac',
    ),
    "bash_kill_all": (
        "kills every process (kill -9 -1)",
        "any",
        "",
        'contained || say "not contained" "others are in reach"\nkill -9 -1\nsay held "only its own"',
    ),
    "bash_fork_bomb": (
        "is the fork bomb of the textbooks",
        "any",
        "",
        'contained || say "not contained" "others are in reach"\n'
        'test "$(fact counts_processes)" = true || test "$(ulimit -Hu)" -le "$((4 * $(fact processes)))" ||\n'
        '  say "not contained" "no limit on processes"\n'
        "bomb() { bomb | bomb & }\nbomb 2>/dev/null\nsleep 0.5\nkill -9 -1",
    ),
    "bash_tcp": (
        "connects by /dev/tcp and /dev/udp",
        "report",
        "none",
        'if (echo > "/dev/tcp/127.0.0.1/$(fact tcp_port)") 2>/dev/null; then say "got through" "tcp"; fi\n'
        'if (echo > "/dev/udp/127.0.0.1/$(fact udp_port)") 2>/dev/null; then say "got through" "udp"; fi\n'
        'say held "no connection"',
    ),
    "bash_programs": (
        "uses the programs of an administrator: su, sudo, unshare, chroot",
        "report",
        "",
        "for line in 'su -c id' 'sudo -n id' 'unshare -U id' 'unshare -m id' "
        "'unshare -r id' 'chroot / id' 'newgrp root' 'nice -n -5 id'; do\n"
        '  if text="$($line </dev/null 2>&1)"; then\n'
        # nice goes on with a warning
        '    case "$text" in *cannot*|*denied*|"") ;; *) say "got through" "$line: $text";; esac\n'
        "  fi\ndone\n"
        'say held "none of them helps"',
    ),
    "bash_write": (
        "writes with the redirections of the shell",
        "report",
        "",
        'for place in / /usr /etc /bin /dev /var; do path="$place/.probe-$(fact mark)"\n'
        '  if (: > "$path") 2>/dev/null; then rm -f "$path"; say "got through" "$path"; fi\ndone\n'
        "for path in /usr/bin/env /etc/hosts /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do\n"
        # opened for appending, written nothing
        '  if (: >> "$path") 2>/dev/null; then say "got through" "$path"; fi\ndone\n'
        'say held "read-only"',
    ),
    "bash_result_link": (
        "makes its result a link to a file outside",
        "any",
        "",
        "rm -f result.json; ln -s /etc/shadow result.json; ln -s /etc/shadow result.out; echo done",
    ),
    "bash_left_behind": (
        "leaves background processes, also in sessions of their own",
        "report",
        "",
        'mark="$(fact mark)"\n'
        '(exec -a "$mark" sleep 20 &)\n'
        '(setsid bash -c "trap \\"\\" 1 2 15; exec -a $mark sleep 20" >/dev/null 2>&1 </dev/null &)\n'
        'say held "they end with the job"',
    ),
}
