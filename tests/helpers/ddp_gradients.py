"""Run by test_ddp.py, in one process and in two: the gradients of the first optimizer step of SFT
and of GRPO.

    python [-m torch.distributed.run --nproc_per_node 2] ddp_gradients.py ROLLOUTS OUT

GRPO's rollouts are scripted. Those of TRL's tool loop are stored by the one process and taken from
there by the two, each its share.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import torch
from small_student import scripted, scripted_trl, teacher_records, untrained, varied

from mentor_kit.rewards import load_reward
from mentor_kit.runs.open import init_run
from mentor_kit.training import grpo, processes
from mentor_kit.training.callback import RunCallback
from mentor_kit.training.config import TrainConfig
from mentor_kit.training.sft import train_sft

STORED, OUT = Path(sys.argv[1]), Path(sys.argv[2])
RECORDS = teacher_records(12)
KEPT: dict[str, torch.Tensor] = {}


class Stored(scripted_trl(RECORDS, varied)):
    def _generate(self, prompts):
        if processes.count() == 1:
            STORED.write_bytes(pickle.dumps((prompts, super()._generate(prompts))))
        asked, columns = pickle.loads(STORED.read_bytes())
        mine = slice(processes.rank() * len(prompts), (processes.rank() + 1) * len(prompts))
        assert prompts == asked[mine]
        return tuple(c[mine] if isinstance(c, list) and len(c) == len(asked) else c
                     for c in columns)


def keep_gradient(self, args, state, control, model=None, **kwargs):
    if state.global_step == 0:
        KEPT["now"] = torch.cat([p.grad.flatten().double() for p in model.parameters()])


def run_of(name):
    folder = OUT / name
    run = init_run(folder, stage="train", params={}) if processes.is_first() else None
    processes.share(None)
    return run or processes.SilentRun(folder, "train", "key")


def main():
    processes.begin()
    RunCallback.on_pre_optimizer_step, grpo.GRPOTrainer, grpo.KitRollouts = (
        keep_gradient,
        Stored,
        scripted(RECORDS, varied),
    )
    each = {"steps": 1, "validate_every": 0, "save_every": 0, "num_processes": processes.count()}
    train_sft(untrained(RECORDS), RECORDS, [],
              TrainConfig(method="sft", sft_batch=8, sft_learning_rate=3.0e-3, **each),
              run_of("sft"))
    gradients = {"sft": KEPT.pop("now")}
    for engine in ("kit", "trl"):
        config = TrainConfig(prompts_per_step=4, group_size=4, micro_batch=4, max_new_tokens=256,
                             rollout_engine=engine,
                             shared_prompts=engine == "kit", **each)
        grpo.train_grpo(untrained(RECORDS), RECORDS, [], load_reward("mentor"), config,
                        run_of(engine))
        gradients[engine] = KEPT.pop("now")
    if processes.is_first():
        torch.save(gradients, OUT / "gradients.pt")


main()
