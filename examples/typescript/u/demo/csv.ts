// Answers as it wants: with a status, a content type and headers of its own.

export async function main(rows: string[][] = [["Hello", "World"]]) {
  return {
    wm_status_code: 201,
    wm_content_type: "text/csv",
    wm_headers: { "Cache-Control": "no-store" },
    result: rows.map((row) => row.join(";")).join("\n"),
  };
}
