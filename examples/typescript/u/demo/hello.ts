// Greets. The parameters of main are the members of the JSON body; what it returns is the answer.

export async function main(name = "world", excited = false) {
  return { greeting: `Hello, ${name}${excited ? "!" : "."}` };
}
