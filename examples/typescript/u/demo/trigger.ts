// Triggers another webhook with nothing but fetch: waiting for its result, not waiting for it, and as a stream of events.
//
// The environment says where the server is, and holds a token with the rights of whoever started this job. From outside, put
// the server's address and a token of your own there.

const jobs = `${process.env.BASE_INTERNAL_URL}/api/w/${process.env.WM_WORKSPACE}`;
const authorization = { Authorization: `Bearer ${process.env.WM_TOKEN}` };

async function post(path: string, args: object): Promise<Response> {
  const response = await fetch(`${jobs}/${path}`, {
    method: "POST",
    headers: { ...authorization, "Content-Type": "application/json" },
    body: JSON.stringify(args),
  });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  return response;
}

/** The answer is the result. */
async function sync(path: string, args: object) {
  return await (await post(`jobs/run_wait_result/p/${path}`, args)).json();
}

/** The answer is the id of a job, which is asked for its result until it has one. */
async function async(path: string, args: object) {
  const id = await (await post(`jobs/run/p/${path}`, args)).text();
  for (;;) {
    const response = await fetch(`${jobs}/jobs_u/completed/get_result_maybe/${id}`, { headers: authorization });
    const { completed, result } = await response.json();
    if (completed) return { id, result };
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The answer is a stream of events: pieces of the result while it is made, at last all of it. */
async function stream(path: string, args: object) {
  const response = await post(`jobs/run_and_stream/p/${path}`, args);
  const chunks: string[] = [];
  let text = "";
  for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
    text += piece;
    const events = text.split("\n\n");
    text = events.pop()!;
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data === undefined) continue;
      const update = JSON.parse(data.slice("data: ".length));
      if (update.new_result_stream) chunks.push(update.new_result_stream);
      if (update.completed) return { chunks, result: update.only_result };
    }
  }
  throw new Error("the stream ended before the job");
}

export async function main(how: "sync" | "async" | "stream" = "sync", path = "u/demo/hello", args: object = {}) {
  return await { sync, async, stream }[how](path, args);
}
