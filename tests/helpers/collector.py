"""One collection from an endpoint in a process of its own, for tests that kill it.

    python tests/helpers/collector.py RUN_FOLDER BASE_URL PROBLEMS
"""

from __future__ import annotations

import sys
from pathlib import Path

from mentor_kit.collection.collect import collect
from mentor_kit.collection.config import CollectConfig
from mentor_kit.errors import UserError
from mentor_kit.runs.open import init_run
from mentor_kit.runs.parameters import configure


def main(folder: str, url: str, problems: str) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    options = [f"base_url:{url}", "model:sums", "key_env:none", "probe:false", "concurrency:8"]
    config = configure(CollectConfig, problems="fault_server:load", teacher="chat_endpoint",
                       split_sizes=[f"train:{problems}"], teacher_options=options)
    run = init_run(folder, stage="collect", params=config.model_dump())
    collect(config, run)
    run.finish()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
