"""Reads a file of the workspace with Windmill's own client, and writes another next to it.

The client is a package like any other: it is installed when the script is deployed.
"""

import wmill


def main(file: dict[str, str]) -> dict[str, str]:
    """``file`` is an S3 object, ``{"s3": KEY}``, as runs get it for an uploaded file."""
    text = wmill.load_s3_file(file).decode()
    loud = wmill.write_s3_file({"s3": file["s3"] + ".loud"}, text.upper().encode())
    return {"file": loud["s3"], "link": wmill.get_presigned_s3_public_url(loud)}
