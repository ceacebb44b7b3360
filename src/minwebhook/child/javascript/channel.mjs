// Frames between the server and this process, on descriptor 3 (the format: child/wire.py).
//
// bun and node read and write the socket itself, blocking: nothing is faster, and nothing of a script runs meanwhile. deno
// knows no descriptors but has them in its sockets of node.

const HEAD_BYTES = 13;
const SECTIONS = 6;
const FD = 3;
const NO_JOB = new Uint8Array(8);

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One frame: `kind` is a letter, `payload` text or bytes, `job` the job's number. */
export function frame(kind, payload = "", job = NO_JOB) {
  const body = typeof payload === "string" ? encoder.encode(payload) : payload;
  const whole = new Uint8Array(HEAD_BYTES + body.length);
  whole[0] = kind.charCodeAt(0);
  new DataView(whole.buffer).setUint32(1, body.length, true);
  whole.set(job, 5);
  whole.set(body, HEAD_BYTES);
  return whole;
}

/** The payload of a USAGE frame: processor time in milliseconds, resident memory at its peak in KiB. */
export function packUsage(cpuMs, peakKib) {
  const payload = new Uint8Array(8);
  const view = new DataView(payload.buffer);
  view.setUint32(0, Math.min(Math.max(Math.round(cpuMs), 0), 0xffffffff), true);
  view.setUint32(4, Math.min(peakKib, 0xffffffff), true);
  return payload;
}

/** Frames one behind the other, as one piece. */
export function joined(frames) {
  if (frames.length === 1) return frames[0];
  const whole = new Uint8Array(frames.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const each of frames) {
    whole.set(each, at);
    at += each.length;
  }
  return whole;
}

/** What a JOB frame says. */
export function unpackJob(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const sections = [];
  let start = HEAD_BYTES + 4 * SECTIONS;
  for (let index = 0; index < SECTIONS; index++) {
    const length = view.getUint32(HEAD_BYTES + 4 * index, true);
    sections.push(length ? decoder.decode(bytes.subarray(start, start + length)) : "");
    start += length;
  }
  const [header, source, , argumentsText, mask, imported] = sections;
  const [path, flags, , ...variables] = header.split("\0");
  return {
    number: bytes.slice(5, HEAD_BYTES),
    path,
    stays: flags.includes("s"),
    preprocess: flags.includes("p"),
    isPreprocessor: flags.includes("o"),
    plain: flags.includes("n"),
    variables,
    source,
    imported: imported ? JSON.parse(imported) : {},
    arguments: argumentsText,
    mask,
  };
}

/** The socket of bun and node. */
export class BlockingChannel {
  #fs;
  #buffer = new Uint8Array(1 << 16);

  constructor(fs) {
    this.#fs = fs;
  }

  /** The next frame whole; null when the server is gone. */
  read() {
    let known = this.#readSome(this.#buffer, 0);
    if (known === 0) return null;
    while (known < HEAD_BYTES) {
      const count = this.#readSome(this.#buffer, known);
      if (count === 0) return null;
      known += count;
    }
    const length = HEAD_BYTES + new DataView(this.#buffer.buffer).getUint32(1, true);
    if (known === length) return this.#buffer.subarray(0, length);
    const whole = new Uint8Array(length);
    whole.set(this.#buffer.subarray(0, known));
    while (known < length) {
      const count = this.#readSome(whole, known);
      if (count === 0) return null;
      known += count;
    }
    return whole;
  }

  #readSome(buffer, start) {
    return this.#fs.readSync(FD, buffer, start, buffer.length - start, null);
  }

  /** Whether the process lives on for what comes from the server, even if its script waits for nothing. */
  hold() {}

  write(bytes) {
    let sent = 0;
    while (sent < bytes.length) sent += this.#fs.writeSync(FD, bytes, sent, bytes.length - sent, null);
  }
}

/** The socket of deno. */
export class EventChannel {
  #socket;
  #pieces = [];
  #known = 0;
  #wake = null;
  #ended = false;

  constructor(net) {
    this.#socket = new net.Socket({ fd: FD });
    const wake = () => this.#wake?.();
    this.#socket.on("data", (piece) => {
      this.#pieces.push(piece);
      this.#known += piece.length;
      wake();
    });
    for (const event of ["end", "error", "close"]) {
      this.#socket.on(event, () => {
        this.#ended = true;
        wake();
      });
    }
  }

  async read() {
    let length = HEAD_BYTES;
    while (this.#known < length) {
      if (this.#ended) return null;
      await new Promise((resolve) => (this.#wake = resolve));
      if (this.#known >= HEAD_BYTES) {
        if (this.#pieces.length > 1) this.#pieces = [joined(this.#pieces)];
        const [head] = this.#pieces;
        length = HEAD_BYTES + new DataView(head.buffer, head.byteOffset).getUint32(1, true);
      }
    }
    const whole = joined(this.#pieces);
    this.#pieces = [];
    this.#known = 0;
    return whole;
  }

  write(bytes) {
    return new Promise((resolve) => this.#socket.write(bytes, resolve));
  }

  hold(holds) {
    if (holds) this.#socket.ref();
    else this.#socket.unref();
  }
}
