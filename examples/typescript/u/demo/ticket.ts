// Opens a ticket. The preprocessor makes its arguments from the whole request, whatever the sender calls things.

type Event = { body: { issue: { title: string } }; headers: Record<string, string>; query: Record<string, string> };

export async function preprocessor(event: Event) {
  return {
    title: event.body.issue.title,
    project: event.query.project,
    sender: event.headers["x-sender"],
  };
}

export async function main(title: string, project = "everything", sender = "somebody") {
  return `${sender} says of ${project}: ${title}`;
}
