"""Probes that are scripts of bun, deno and node. Each gives its outcome, by the functions of :data:`PRELUDE`.

deno has permissions of its own, which must not be what the sandbox rests on: an answer of theirs counts as held, since a
script has no other way, and the same calls are tried by the other engines, which have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LANGUAGES: Final = ("bun", "deno", "nodejs")

#: A probe is the body of ``attempt(facts)``.
PRELUDE: Final = r"""
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import process from "node:process";

const held = (evidence: unknown) => ["held", String(evidence).slice(0, 400)];
const through = (evidence: unknown) => ["got through", String(evidence).slice(0, 400)];

/** Held if every step fails, with what the last one said. */
function tried(steps: Record<string, () => unknown>) {
  let last = "nothing to try";
  for (const [name, step] of Object.entries(steps)) {
    try {
      step();
      return through(name);
    } catch (error) {
      last = `${name}: ${error.message ?? error}`;
    }
  }
  return held(last);
}

/** Whether the kernel says that the process is there, and that this one may not signal it. */
function isKeptOff(pid: number) {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error.code === "EPERM";
  }
  return false;
}

/** What must be seen before anything that hurts is tried. */
function uncontained(facts: any) {
  if (facts.rung === "landlock") {  // the kernel refuses signals to others
    const apart = [facts.server_pid, facts.zygote_pid].every(isKeptOff);
    return apart ? null : ["not contained", "others are in reach"];
  }
  if (process.pid >= 64 || fs.existsSync("/etc/shadow")) return ["not contained", "others are in reach"];
  const uid = Number(execFileSync("id", ["-u"], { encoding: "utf8" }));
  const spans = execFileSync("cat", ["/proc/self/uid_map"], { encoding: "utf8" }).trim().split("\n");
  for (const span of spans) {
    const [inside, outer, count] = span.trim().split(/\s+/).map(Number);
    if (uid >= inside && uid < inside + count && (uid - inside + outer !== 0 || !facts.root_is_root)) return null;
  }
  return ["not contained", "a user that is root outside"];
}
"""

#: Name -> (what it tries, how it is judged, network policy, the body).
SCRIPTS: Final = {
    "js_password_hashes": (
        "reads password hashes and files of the server with node:fs",
        "report",
        "",
        'const paths = ["/etc/shadow", "/etc/gshadow", "/proc/1/root/etc/shadow", "/root/.ssh", ...facts.hidden];\n'
        "return tried(Object.fromEntries(paths\n"
        "  .map((path) => [path, () => fs.accessSync(path) ?? fs.readFileSync(path)])));",
    ),
    "js_environments": (
        "reads the environment of every process, by its own means and with cat",
        "report",
        "",
        'const secret = [...facts.canary].reverse().join("");\n'
        'let seen = "";\n'
        'try { seen = execFileSync("sh", ["-c", "cat /proc/*/environ"], { encoding: "utf8" }); }\n'
        "catch (error) { seen = error.stdout; }\n"
        "for (let pid = 1; pid < 5000; pid++) try { seen += fs.readFileSync(`/proc/${pid}/environ`); } catch {}\n"
        'return seen.includes(secret) ? through("a secret of the server") : held("no secret");',
    ),
    "js_kill_all": (
        "kills every process (process.kill(-1))",
        "any",
        "",
        'return uncontained(facts) ?? (process.kill(-1, "SIGKILL"), held("only its own"));',
    ),
    "js_signal": (
        "sends a signal to the server and the fork server (process.kill)",
        "report",
        "",
        "const pids = [facts.server_pid, facts.zygote_pid];\n"
        'return tried(Object.fromEntries(pids.map((pid) => [pid, () => process.kill(pid, "SIGCONT")])));',
    ),
    "js_fork_bomb": (
        "starts programs until it is refused",
        "any",
        "",
        "const missing = uncontained(facts);\n"
        "if (missing) return missing;\n"
        "const most = Number(execFileSync('bash', ['-c', 'ulimit -Hu'], { encoding: 'utf8' }));\n"
        "if (!facts.counts_processes && !(most <= 4 * facts.processes))\n"
        "  return ['not contained', 'no limit on processes'];\n"
        "let count = 0;\n"
        "for (; count < 4 * facts.processes + 64; count++) {\n"
        '  const started = spawn("sleep", ["5"], { stdio: "ignore" });\n'
        '  started.on("error", () => {});\n'
        "  if (!started.pid) return held(`${count} were started`);\n"
        "}\n"
        "return through(`${count} were started`);",
    ),
    "js_memory": (
        "takes memory without end",
        "any",
        "",
        "const all = [];\n"
        "for (let size = 0; size < 4 * facts.memory_bytes; size += 64 << 20) all.push(new Uint8Array(64 << 20));\n"
        "return through(`${all.length * 64} MiB`);",
    ),
    "js_tcp": (
        "connects with fetch and with node:net",
        "report",
        "none",
        "for (const host of ['127.0.0.1', '[::1]', 'localhost', '10.0.0.1']) {\n"
        "  try {\n"
        "    await fetch(`http://${host}:${facts.tcp_port}/`, { signal: AbortSignal.timeout(500) });\n"
        "    return through(`fetch ${host}`);\n"
        "  } catch {}\n"
        "}\n"
        "return await new Promise((resolve) => {\n"
        "  const socket = net.connect(facts.tcp_port, '127.0.0.1');\n"
        "  socket.on('connect', () => resolve(through('node:net')));\n"
        "  socket.on('error', (error) => resolve(held(error.message)));\n"
        "});",
    ),
    "js_write": (
        "writes where others read: programs, configuration, its own runtime",
        "report",
        "",
        "const places = ['/', '/usr/', '/etc/', '/bin/', '/dev/', '/runtimes/', '/runtimes/javascript/',\n"
        "  '/runtimes/code_cache/'];\n"
        "const files = ['/usr/bin/env', '/etc/hosts', '/proc/sys/kernel/core_pattern', process.execPath];\n"
        "if (fs.existsSync('/runtimes')) files.push('/runtimes/javascript/run.mjs');\n"
        "return tried(Object.fromEntries([\n"
        "  ...places.map((place) => `${place}.probe-${facts.mark}`).map((path) => [path, () => {\n"
        "    fs.writeFileSync(path, '');\n"
        "    try { fs.rmSync(path); } catch {}\n"
        "  }]),\n"
        "  ...files.map((file) => [file, () => fs.closeSync(fs.openSync(file, 'a'))]),\n"
        "]));",
    ),
    "js_programs": (
        "uses the programs of an administrator by node:child_process",
        "report",
        "",
        "const lines = ['su -c id', 'sudo -n id', 'unshare -U id', 'unshare -m id', 'chroot / id', 'mount -t tmpfs x /tmp'];\n"
        "const run = (line: string) => execFileSync('sh', ['-c', line], { stdio: 'pipe' });\n"
        "return tried(Object.fromEntries(lines.map((line) => [line, () => run(line)])));",
    ),
    "js_left_behind": (
        "leaves processes behind, in sessions of their own",
        "report",
        "",
        "const line = `trap '' 1 2 15; exec -a ${facts.mark} sleep 20`;\n"
        "for (let i = 0; i < 3; i++) spawn('bash', ['-c', line], { detached: true, stdio: 'ignore' }).unref();\n"
        "return held('they end with the job');",
    ),
    "js_forged_report": (
        "writes frames of its own to the socket of its job",
        "any",
        "",
        "fs.writeSync(3, new Uint8Array([82, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 116, 114, 117, 101]));\nreturn null;",
    ),
}


def source(language: str, script: str) -> str:
    """The whole script of a probe."""
    mark = "//nodejs\n" if language == "nodejs" else ""
    return f"{mark}{PRELUDE}\nexport async function main(facts: any) {{\n{script}\n}}\n"


def source_of_many(language: str, scripts: Mapping[str, str]) -> str:
    """A script that gives the outcomes of many probes by name."""
    mark = "//nodejs\n" if language == "nodejs" else ""
    functions = "".join(f"  async {name}(facts: any) {{\n{script}\n  }},\n" for name, script in scripts.items())
    return (
        f"{mark}{PRELUDE}\nconst probes = {{\n{functions}}};\n"
        "export async function main(facts: any) {\n  const found: Record<string, unknown> = {};\n"
        "  for (const [name, probe] of Object.entries(probes)) {\n"
        "    found[name] = await probe(facts).catch((error) => String(error));\n  }\n  return found;\n}\n"
    )
