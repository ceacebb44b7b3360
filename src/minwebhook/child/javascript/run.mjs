// Runs TypeScript and JavaScript in bun, deno or node: one job, or many for a dedicated worker.
//
// A waiting process warms itself up by running dummy jobs through the very code that will run the real one. The rules of the
// arguments and the result of `main` are Windmill's (spec: scripts, TypeScript).

import fs from "node:fs";

import { BlockingChannel, EventChannel, frame, joined, packUsage, unpackJob } from "./channel.mjs";
import { parameters } from "./signature.mjs";
import { convert, decodeArguments, digitsOf, encodeResult } from "./values.mjs";

// Not imported: node would open its streams for that.
const { process } = globalThis;
const isDeno = "Deno" in globalThis;
const isBun = "Bun" in globalThis;
const home = process.cwd();
const ownPlace = new URL(".", import.meta.url).href;

const WARM_UP_RUNS = 3;
const WARM_UP_SCRIPT = `
type Item = { name: string };
function repeat(value: unknown, factor = 2): unknown[] { return new Array(factor).fill(value); }
export async function main(a: number = 0, b: string = "", when?: Date, e?: { f: string }) {
  const items: Item[] = Array.from({ length: 10 }, (_, index) => ({ name: String(index) }));
  return { a, b, when, items: items.map((item) => item.name), twice: repeat(a), e };
}
`;
const WARM_UP_ARGUMENTS = '{"a":[1,2.5,"x",null,true],"b":"text","when":"2026-01-31T12:00:00Z","e":{"f":"g","h":[{"i":1}]}}';

const streamMark = "WM_STREAM: ";

/** What a job may not keep from us: a script may replace what is global. */
const { exit } = process;
const { apply, bind } = Function.prototype;

class Session {
  #channel;
  /** The job that runs. */
  #job = null;
  #module = null;
  #source = "";
  #parameters = new Map();
  #cpuMs = cpuMs();
  /** What is set, as far as it is known. */
  #environment = new Map();

  constructor(channel) {
    this.#channel = channel;
  }

  /** Runs the next job. True if another one may come. */
  async runOne() {
    const bytes = await this.#channel.read();
    if (bytes === null) exit(0);
    const job = unpackJob(bytes);
    this.#setEnvironment(job.variables);
    this.#channel.hold(false);
    this.#job = job;
    let kind = "R";
    let answer;
    try {
      let values = decodeArguments(job.arguments, job.mask);
      this.#module ??= await this.#load(job);
      if (job.preprocess) {
        values = await this.#call("preprocessor", values, job);
        if (values === null || typeof values !== "object" || Array.isArray(values)) {
          throw new TypeError("preprocessor must return an object, the arguments of main");
        }
        await this.#channel.write(this.#value("A", ...encodeResult(values), job));
      }
      const result = await this.#call(job.isPreprocessor ? "preprocessor" : "main", values, job);
      answer = encodeResult(isStream(result) ? await stream(result) : result);
    } catch (error) {
      kind = "E";
      answer = encodeError(error);
    }
    await this.#report(kind, answer);
    return job.stays;
  }

  /** The engine is about to end because there is nothing left to do or to wait for. */
  async giveUp() {
    if (this.#job === null) return;
    await this.#report("E", encodeError(new Error("main waits for something that will never happen")));
    await this.#channel.read(); // the server ends this process after the answer is out
  }

  async #report(kind, [text, mask]) {
    const job = this.#job;
    this.#job = null;
    this.#channel.hold(true);
    await flush();
    const usage = frame("U", packUsage(this.#usedMs(), peakKib()), job.number);
    await this.#channel.write(joined([usage, this.#value(kind, text, mask, job)]));
  }

  /** Sets what differs from the job before. */
  #setEnvironment(variables) {
    for (const variable of variables) {
      const at = variable.indexOf("=");
      const name = variable.slice(0, at);
      const value = variable.slice(at + 1);
      if (this.#environment.get(name) !== value) {
        this.#environment.set(name, value);
        process.env[name] = value;
      }
    }
  }

  async #load({ path, source, imported }) {
    this.#source = source;
    for (const [name, code] of Object.entries(imported)) write(name, code);
    return await import(`file://${write(path || "main", source)}`);
  }

  /** Calls a function of the script with the arguments that it declares, in their order. */
  async #call(name, values, job) {
    const value = this.#module[name];
    if (typeof value !== "function") throw new Error(`${name} function is missing`);
    let declared = this.#parameters.get(name);
    if (declared === undefined) this.#parameters.set(name, (declared = parameters(this.#source, name, value)));
    const passed = [];
    // What a preprocessor made is passed on as it is.
    const converts = !job.plain && !(job.preprocess && name === "main");
    for (const { name: parameter, type, isRest } of declared) {
      if (isRest) break;
      // A pattern takes its members out of all arguments.
      const given = parameter === "" ? values : Object.hasOwn(values, parameter) ? values[parameter] : undefined;
      passed.push(type && converts ? convert(given, type, () => digitsOf(job.arguments, parameter)) : given);
    }
    return await alone(value, passed);
  }

  /** What was used since it was asked last. */
  #usedMs() {
    const before = this.#cpuMs;
    this.#cpuMs = cpuMs();
    return this.#cpuMs - before;
  }

  /** The frame of one value as JSON text, behind its mask if it has one. */
  #value(kind, text, mask, job) {
    const value = frame(kind, text, job.number);
    return mask ? joined([frame("M", mask, job.number), value]) : value;
  }
}

/**
 * What a function gives, called with nothing of ours below it: not even what an engine prints of an error that nobody catches
 * then shows more than the script.
 */
function alone(value, passed) {
  const call = bind.call(apply, value, undefined); // of its arguments alone: it may look at how many there are
  return new Promise((resolve, reject) => {
    const called = Promise.resolve(passed).then(call);
    called.then((result) => resolve(result), (error) => reject(error)); // engines would see through resolve itself
  });
}

/** Paths of scripts, as imports have them from the top of the workspace, which is the directory of the job. */
const FROM_TOP = /(\b(?:from|import)\s*\(?\s*)(["'])\/(?=[ufg]\/)/g;

/** Names of packages with what only the server needs to know: `npm:` and versions. Deno reads these itself. */
const PACKAGE = /(\b(?:from|import|require)\s*\(?\s*)(["'])(?:npm:\/?)?((?:@[\w.~-]+\/)?[\w~][\w.~-]*)(?:@([\w.^~<>=|*+ -]+))?((?:\/[^"'\n]*)?\2)/g;

/** The file of a script, written. */
function write(path, code) {
  const file = `${home}/${path}.ts`;
  if (path.includes("/")) fs.mkdirSync(file.slice(0, file.lastIndexOf("/")), { recursive: true });
  let text = code.includes("/") ? code.replace(FROM_TOP, `$1$2${home}/`) : code;
  if (!isDeno && (text.includes("npm:") || text.includes("@"))) text = text.replace(PACKAGE, installed);
  fs.writeFileSync(file, text);
  return file;
}

/** An import by the name that the package has here: one of several versions has one of its own (scripts/specifiers.py). */
function installed(_whole, before, quote, name, versions, behind) {
  if (versions) {
    const apart = `${name}--${versions.replace(/[^A-Za-z0-9._-]/g, (mark) => `~${mark.charCodeAt(0).toString(16)}`)}`;
    if (fs.existsSync(`${home}/node_modules/${apart}`)) return before + quote + apart + behind;
  }
  return before + quote + name + behind;
}

function cpuMs() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function peakKib() {
  return process.resourceUsage?.().maxRSS ?? Math.round(process.memoryUsage().rss / 1024);
}

/** Whether a result is a stream of text: what can only be read once, in order. */
function isStream(value) {
  if (value === null || typeof value !== "object") return false;
  if (typeof value[Symbol.asyncIterator] === "function") return true;
  return typeof value[Symbol.iterator] === "function" && typeof value.next === "function";
}

/** Prints each chunk; the server makes the result of them. */
async function stream(chunks) {
  const decoder = new TextDecoder();
  for await (const chunk of chunks) {
    const text = chunk instanceof Uint8Array ? decoder.decode(chunk, { stream: true }) : chunk;
    if (typeof text !== "string") throw new TypeError(`a streaming main must yield strings, not ${typeof text}`);
    fs.writeSync(1, `${streamMark}${text.replaceAll("\n", "\\n")}\n`);
  }
  return null;
}

/** The error object of whatever was thrown: message, name, stack below this file, and its own members as `extra`. */
function encodeError(error) {
  try {
    return encodeResult(describe(error));
  } catch {
    return encodeResult({ message: "(the error cannot be shown)", name: "Error" });
  }
}

const ENGINE_LINE = /^\s+at .*\b(?:node:internal|ext:)\//;
const NOT_EXTRA = new Set(["message", "name", "stack", "line", "column", "sourceURL", "originalLine", "originalColumn"]);

function describe(error) {
  if (!isError(error)) {
    return { message: typeof error === "string" ? error : encodeResult(error)[0], name: "Error" };
  }
  const report = { message: asCalled(messageOf(error)), name: String(error.name) };
  report.stack = shortened(String(error.stack ?? ""));
  const extra = {};
  for (const [name, member] of Object.entries(error)) {
    if (!NOT_EXTRA.has(name)) extra[name] = member;
  }
  if (Object.keys(extra).length) {
    try {
      encodeResult(extra); // what cannot be shown is found out here
      report.extra = extra;
    } catch {
      // it goes without
    }
  }
  return report;
}

/** Errors of the engine's own parser are no Error in bun. */
function isError(value) {
  return value instanceof Error || (value !== null && typeof value === "object" && "message" in value && "name" in value);
}

function messageOf(error) {
  const parts = error instanceof AggregateError ? error.errors.map((each) => each?.message ?? String(each)) : [];
  return [...(error.message ? [String(error.message)] : []), ...parts].join("\n");
}

/** A stack up to this program, without the engine's own lines. */
function shortened(stack) {
  const lines = stack.split("\n");
  const end = lines.findIndex((line) => line.includes(ownPlace.slice("file://".length)));
  const kept = (end < 0 ? lines : lines.slice(0, end)).filter((line) => !ENGINE_LINE.test(line));
  return asCalled(kept.join("\n"));
}

/** A text with the names of scripts as they are called. */
function asCalled(text) {
  return text.replaceAll(`file://${home}/`, "").replaceAll(`${home}/`, "");
}

/**
 * Gives node streams for its output that wait until all is written: its own ones would make the pipe of the log, which both
 * share, one that does not wait, and mix up their lines when it is full.
 */
function replaceOutput() {
  const { Writable } = process.getBuiltinModule("node:stream"); // the others do not need it, and it is large
  for (const [name, fd] of [["stdout", 1], ["stderr", 2]]) {
    const stream = new Writable({
      decodeStrings: true,
      write(chunk, _encoding, done) {
        let sent = 0;
        while (sent < chunk.length) sent += fs.writeSync(fd, chunk, sent);
        done();
      },
    });
    Object.defineProperty(process, name, { configurable: true, enumerable: true, get: () => Object.assign(stream, { fd }) });
  }
}

/** What was printed is in the log before the result is out. */
async function flush() {
  if (!isBun) return;
  for (const stream of [process.stdout, process.stderr]) {
    if (stream.writableLength) await new Promise((resolve) => stream.write("", resolve));
  }
}

/** A channel of one job, and what came back. */
class DummyChannel {
  constructor(job) {
    this.job = job;
  }
  read() {
    return this.job;
  }
  write() {}
  hold() {}
}

function dummyJob(variables, run) {
  const header = [`.warm/${run}`, "", "", ...variables].join("\0");
  const encoder = new TextEncoder();
  const sections = [header, `${WARM_UP_SCRIPT}// ${run}`, "", WARM_UP_ARGUMENTS, "", ""].map((text) => encoder.encode(text));
  const lengths = new Uint8Array(4 * sections.length);
  sections.forEach((section, index) => new DataView(lengths.buffer).setUint32(4 * index, section.length, true));
  return frame("J", joined([lengths, ...sections]));
}

async function warmUp() {
  const variables = Object.entries(process.env).filter(([name]) => name.startsWith("WM_")).map((pair) => pair.join("="));
  for (let run = 0; run < WARM_UP_RUNS; run++) {
    await new Session(new DummyChannel(dummyJob(variables, run))).runOne();
  }
  fs.rmSync(`${home}/.warm`, { recursive: true, force: true });
  await (await fetch("data:,")).text(); // loaded at its first use
}

async function serve() {
  if (!isDeno && !isBun) replaceOutput();
  const net = isDeno && (await import("node:net"));
  if (process.argv[2] === "warm-up") {
    await warmUp(); // for what the engine keeps of that
    exit(0);
  }
  const channel = isDeno ? new EventChannel(net) : new BlockingChannel(fs);
  await warmUp();
  await channel.write(frame("Y"));
  const session = new Session(channel);
  process.once("beforeExit", () => session.giveUp());
  while (await session.runOne());
  await channel.read(); // the server ends this process after the answer is out
  exit(0);
}

serve();
