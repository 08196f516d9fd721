"""`python -m worker`: one worker for this machine's device."""

from __future__ import annotations

import os

from worker.app import create_app


def main() -> None:
    name = f"d3po-{os.getpid()}@%h"
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    create_app().worker_main(["worker", "--loglevel", "INFO", "--pool", "prefork", "--hostname", name, *quiet])


if __name__ == "__main__":
    main()
