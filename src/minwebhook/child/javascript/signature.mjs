// The parameters of a function, read off its source: TypeScript as it was written, or what the engine shows of a function.
// Pure.

const NAME = /^[A-Za-z_$\u0080-\uffff][\w$\u0080-\uffff]*/;
/** Characters of a parameter list that are looked at. */
const MAX_LENGTH = 100_000;
const OPENING = "([{";
const CLOSING = ")]}";

/** Behind a string, template, comment that begins at `at`; `at` itself if none does. */
function behindLiteral(text, at) {
  const first = text[at];
  if (first === '"' || first === "'") {
    for (let i = at + 1; i < text.length; i++) {
      if (text[i] === "\\") i++;
      else if (text[i] === first || text[i] === "\n") return i + 1;
    }
    return text.length;
  }
  if (first === "`") {
    for (let i = at + 1; i < text.length; i++) {
      if (text[i] === "\\") i++;
      else if (text[i] === "`") return i + 1;
      else if (text[i] === "$" && text[i + 1] === "{") i = behindBracket(text, i + 1) - 1;
    }
    return text.length;
  }
  if (first === "/" && text[at + 1] === "/") {
    const end = text.indexOf("\n", at);
    return end < 0 ? text.length : end;
  }
  if (first === "/" && text[at + 1] === "*") {
    const end = text.indexOf("*/", at + 2);
    return end < 0 ? text.length : end + 2;
  }
  return at;
}

/** Behind the bracket that closes the one at `at`. */
function behindBracket(text, at) {
  let depth = 0;
  for (let i = at; i < text.length; i++) {
    const next = behindLiteral(text, i);
    if (next > i) {
      i = next - 1;
    } else if (OPENING.includes(text[i])) {
      depth++;
    } else if (CLOSING.includes(text[i]) && --depth === 0) {
      return i + 1;
    }
  }
  return text.length;
}

/** What is between the brackets, cut at its commas, without comments. */
function pieces(text) {
  const found = [];
  let piece = "";
  let angles = 0;
  const add = () => {
    if (piece.trim()) found.push(piece.trim());
    piece = "";
  };
  for (let i = 0; i < text.length; i++) {
    const next = behindLiteral(text, i);
    if (next > i) {
      piece += text[i] === "/" ? " " : text.slice(i, next);
      i = next - 1;
    } else if (OPENING.includes(text[i])) {
      const end = behindBracket(text, i);
      piece += text.slice(i, end);
      i = end - 1;
    } else if (text[i] === "," && angles === 0) {
      add();
    } else {
      // Those of types: Map<string, number>. In a default value they compare, or are arrows.
      if (!defaultAt(piece)) {
        if (text[i] === "<") angles++;
        else if (text[i] === ">" && text[i - 1] !== "=" && angles > 0) angles--;
      }
      piece += text[i];
    }
  }
  add();
  return found;
}

/** Where the default value of a parameter begins; 0 if it has none (its name comes first). */
function defaultAt(piece) {
  for (let i = 0; i < piece.length; i++) {
    const next = behindLiteral(piece, i);
    if (next > i) i = next - 1;
    else if (OPENING.includes(piece[i])) i = behindBracket(piece, i) - 1;
    else if (piece[i] === "=" && piece[i + 1] !== ">" && piece[i + 1] !== "=") return i;
  }
  return 0;
}

/** One parameter: `name` is empty for a pattern; `type` as it is written, or empty. */
function parameter(piece) {
  let text = piece;
  const isRest = text.startsWith("...");
  if (isRest) text = text.slice(3).trim();
  const end = defaultAt(text);
  if (end) text = text.slice(0, end).trim();
  const name = NAME.exec(text)?.[0] ?? "";
  const behind = name ? text.slice(name.length) : text.slice(behindBracket(text, 0));
  const type = /^\s*\??\s*:([^]*)$/.exec(behind)?.[1].trim() ?? "";
  return { name, type, isRest };
}

/** The parameters of the function whose text, from its name or `async` on, this is; null if they cannot be found. */
function parametersOf(text) {
  const start = /^\s*(?:async\b\s*)?(?:function\b)?\s*\*?\s*(?:[\w$\u0080-\uffff]+\s*)?(?:<[^(]*>\s*)?/.exec(text)[0].length;
  if (text[start] === "(") {
    const end = behindBracket(text, start);
    return pieces(text.slice(start + 1, end - 1)).map(parameter);
  }
  const lone = /^\s*(?:async\b\s*)?([\w$\u0080-\uffff]+)\s*=>/.exec(text); // name => …
  return lone ? [{ name: lone[1], type: "", isRest: false }] : null;
}

/** The types that say what an argument becomes (values.mjs). Most scripts have none, and need not be searched for types. */
const CONVERTED = /\b(?:Date|bigint)\b/;

/**
 * The parameters of an exported function: `[{name, type, isRest}]`.
 *
 * What the engine shows of the function says their names; their types are looked up in the script, if one counts there.
 */
export function parameters(source, name, value) {
  const shown = parametersOf(value.toString().slice(0, MAX_LENGTH)) ?? [];
  if (!CONVERTED.test(source)) return shown;
  const pattern = `^[ \\t]*(?:export[ \\t]+)?(?:default[ \\t]+)?(?:(?:async[ \\t]+)?function[ \\t]*\\*?[ \\t]*${name}\\b|(?:const|let|var)[ \\t]+${name}[ \\t]*=)`;
  const types = new Map();
  for (const match of source.matchAll(new RegExp(pattern, "gm"))) {
    const start = match.index + match[0].length;
    const written = parametersOf(source.slice(start, start + MAX_LENGTH));
    for (const each of written ?? []) {
      if (each.name && each.type && !types.has(each.name)) types.set(each.name, each.type);
    }
  }
  return shown.map((each) => ({ ...each, type: types.get(each.name) ?? "" }));
}

/** Whether a type, as it is written, is `word`, also if it may be missing. */
export function isType(type, word) {
  const members = type.split("|").map((member) => member.trim());
  return members.includes(word) && members.every((member) => [word, "undefined", "null", "string"].includes(member));
}
