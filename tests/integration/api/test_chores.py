"""What is done now and then meets a database that does not answer as it should: it is tried again, and the server goes on."""

from __future__ import annotations

from pathlib import Path

from tests.server import eventually, serving


def test_a_chore_that_cannot_read_ends_neither_itself_nor_the_server(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--max-logs-bytes", "4096", "--workers", "2") as (server, client):
        client.deploy("u/admin/talk", "def main():\n    print('x' * 2000)\n    return 1\n")
        server.execute("ALTER TABLE output_total RENAME TO away")
        eventually(lambda: "old jobs could not be removed" in server.log, "a look in vain")
        done = [client.submit("u/admin/talk") for _ in range(5)]
        assert [client.ended(job_id)["result"] for job_id in done] == [1] * 5
        server.execute("ALTER TABLE away RENAME TO output_total")
        eventually(lambda: "x" not in client.logs(done[0]), "the oldest log is gone")
        assert client.run("u/admin/talk").json() == 1
