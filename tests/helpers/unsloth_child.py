"""Notebook 03's calls in a process of their own, because Unsloth rewrites the process it is
imported into.

    python tests/helpers/unsloth_child.py PARAMS.yaml COLLECTION_RUN RUN_FOLDER [name=value ...]

Prints what Unsloth reports to stderr and, last on stdout, one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

from mentor_kit.collection.collection import load_collection
from mentor_kit.errors import UserError
from mentor_kit.runs.open import init_run, load_run
from mentor_kit.runs.parameters import configure, parse_settings
from mentor_kit.training import stage
from mentor_kit.training.config import TrainConfig


def main(params: str, collection: str, folder: str, *settings: str) -> None:
    asked = yaml.safe_load(Path(params).read_text()) | parse_settings(settings, "settings")
    config = configure(TrainConfig, **asked)
    teacher = load_run(collection, stage="collect")
    run = init_run(folder, stage=stage.stage_name(config), params=config.model_dump(),
                    inputs=stage.inputs(config, teacher))
    lessons = stage.load_training_data(load_collection(teacher), config)
    student = stage.make_student(config, lessons, None)
    described = student.describe()
    student.ask(lessons.validation[0].problem)
    budget = stage.train(config, student, lessons, run)
    student.ask(lessons.validation[0].problem)
    print(json.dumps({"describe": described, "budget": budget,
                      "unsloth": "unsloth" in sys.modules}))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        print(json.dumps({"error": str(error)}))
