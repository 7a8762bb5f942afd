"""The embedded S3 server: rclone over a plain folder."""

import os
from pathlib import Path

from cli.embedded.server import Server, answers, executable
from cli.ledger import Ledger
from cli.process import Program


def server(data: Path, ledger: Ledger) -> Server:
    """An S3 server over `data`/objects; a bucket is a folder in it."""
    folder = data / "objects"
    folder.mkdir(exist_ok=True)
    port, secret = ledger.port("s3"), ledger.secret("s3")
    endpoint = f"http://127.0.0.1:{port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
    return Server(
        program=Program(
            name="s3",
            command=(executable("rclone"), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"),
            log=data / "logs" / "s3.log",
            # The key goes by the environment: a command line is everybody's to read. No configuration of the user's.
            environment=environment | {"RCLONE_AUTH_KEY": f'"lorikeet,{secret}"', "RCLONE_CONFIG": ""},
            folder=folder,
        ),
        settings={
            "S3_ENDPOINT_URL": endpoint,
            "S3_PUBLIC_ENDPOINT_URL": endpoint,
            "S3_BUCKET": "lorikeet",
            "S3_ACCESS_KEY_ID": "lorikeet",
            "S3_SECRET_ACCESS_KEY": secret,
        },
        is_ready=lambda: answers(port),
    )
