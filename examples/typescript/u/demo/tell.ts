// Streams its result: each text that main yields is sent on as it comes.

export async function* main(words = "one two three", pause_s = 0.2) {
  for (const [number, word] of words.split(" ").entries()) {
    if (number) await new Promise((resolve) => setTimeout(resolve, 1000 * pause_s));
    console.log("word", number + 1); // the log
    yield `${word} `;
  }
}
