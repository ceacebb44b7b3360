// Values between the server and a script: JSON text, and a mask that says where byte strings are (child/values.py). Pure.

import { isType } from "./signature.mjs";

/** The arguments of a job by name. */
export function decodeArguments(text, mask) {
  const values = JSON.parse(text);
  return mask ? restore(values, JSON.parse(mask)) : values;
}

/** `value` with the byte strings, which are base64 there, back in place. */
function restore(value, mask) {
  if (mask === true) return typeof value === "string" ? fromBase64(value) : value;
  if (mask === null || typeof mask !== "object" || value === null || typeof value !== "object") return value;
  for (const [name, inner] of Object.entries(mask)) {
    if (Object.hasOwn(value, name)) value[name] = restore(value[name], inner);
  }
  return value;
}

function fromBase64(text) {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return text;
  }
}

function toBase64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) {
    text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  }
  return btoa(text);
}

/** An argument as its declared type wants it: Date and bigint; everything else as it came. `digits` gives those of a number. */
export function convert(value, type, digits) {
  if (isType(type, "Date")) {
    if (value instanceof Date) return value;
    return value ? new Date(value) : undefined;
  }
  if (isType(type, "bigint")) {
    if (Number.isSafeInteger(value)) return BigInt(value);
    if (typeof value === "string" && /^[+-]?\d+$/.test(value)) return BigInt(value);
    if (Number.isInteger(value)) return BigInt(digits() ?? value);
  }
  return value;
}

/** The digits of a number among the members of a JSON object, as they were sent; undefined if the engine does not tell. */
export function digitsOf(text, name) {
  const seen = new WeakMap();
  let found;
  JSON.parse(text, function (key, value, context) {
    if (key === name && typeof value === "number") seen.set(this, context?.source);
    if (key === "") found = seen.get(value); // the object as a whole comes last
    return value;
  });
  return found;
}

const LONE_SURROGATE = /(?<!\\)((?:\\\\)*)\\ud[89a-f][0-9a-f]{2}/i;

/**
 * A result as compact JSON, and the mask that says where it holds byte strings ("" for nowhere).
 *
 * undefined becomes null, a bigint its digits as text, a Date its ISO form. Raises what JSON.stringify raises.
 */
export function encodeResult(value) {
  let bytes = false;
  const encode = (wellFormed) =>
    JSON.stringify(value, function (key, member) {
      if (member === undefined) return null;
      switch (typeof member) {
        case "bigint":
          return member.toString();
        case "string":
          return wellFormed ? member.replace(/\p{Surrogate}/gu, "\ufffd") : member;
        case "object": {
          const own = this[key]; // Buffer has been made something else
          if (own instanceof Uint8Array || own instanceof ArrayBuffer) {
            bytes = true;
            return toBase64(own instanceof ArrayBuffer ? new Uint8Array(own) : own);
          }
        }
      }
      return member;
    });
  let text = encode(false) ?? "null";
  if (LONE_SURROGATE.test(text)) text = encode(true); // JSON of others has no half characters
  return [text, bytes ? JSON.stringify(maskOf(value)) : ""];
}

function maskOf(value) {
  if (value instanceof Uint8Array || value instanceof ArrayBuffer) return true;
  if (value === null || typeof value !== "object" || typeof value.toJSON === "function") return null;
  const found = {};
  for (const [name, member] of Object.entries(value)) {
    const mask = maskOf(member);
    if (mask !== null) found[name] = mask;
  }
  return Object.keys(found).length ? found : null;
}
