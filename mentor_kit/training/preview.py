"""One group of rollouts as training sees it: rewards, advantages, and which tokens are trained.

    preview_group(student, record, load_reward("mentor"), config)    # draws itself in Jupyter
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd

from mentor_kit.core.html import clean
from mentor_kit.core.records import Record
from mentor_kit.judging.judge import final_answer
from mentor_kit.rewards import Reward, Score
from mentor_kit.rewards.advantages import group_advantages
from mentor_kit.students.rollout import Rollout, run_rollouts
from mentor_kit.students.sampling import Sampling, step_seed
from mentor_kit.students.student import Student
from mentor_kit.training.config import TrainConfig

WRITTEN, MASKED = "#d6ecfa", "#e8e8e8"  # backgrounds of what the student wrote and of tool results
TOKEN = "border-radius:2px;padding:0 1px;margin:0 1px 1px 0;display:inline-block;white-space:pre"


@dataclass(frozen=True)
class GroupPreview:
    """A group of rollouts of one problem.

    Args:
        record: the problem with the teacher's trajectory.
        rollouts: token ids and turns; scores, advantages: of each of them.
        pieces: the text of each token of each completion.
    """

    record: Record
    rollouts: tuple[Rollout, ...]
    scores: tuple[Score, ...]
    advantages: np.ndarray
    pieces: tuple[tuple[str, ...], ...]

    def table(self) -> pd.DataFrame:
        """A row a rollout: its answer and tools, the reward's terms, the reward, the advantage."""
        rows = []
        for rollout, score, advantage in zip(self.rollouts, self.scores, self.advantages,
                                             strict=True):
            trajectory = rollout.trajectory("student")
            rows.append({"answer": final_answer(trajectory) or "",
                         "tools": ", ".join(trajectory.tool_names), **score.terms,
                         "reward": score.total, "advantage": float(advantage),
                         "trained tokens": sum(rollout.written)})
        numbers = pd.DataFrame(rows)
        numbers.index.name = "rollout"
        return numbers

    def tokens_html(self, number: int) -> str:
        """The completion of one rollout, token by token: blue is trained, grey is masked."""
        spans = [f"<span style='{TOKEN};background:{WRITTEN if written else MASKED}'>"
                 f"{escape(clean(piece)).replace(chr(10), '⏎')}</span>"
                 for piece, written in zip(self.pieces[number], self.rollouts[number].written,
                                           strict=True)]
        return "".join(spans)

    def _repr_html_(self) -> str:
        table = self.table().style.format(precision=2, na_rep="").to_html()
        shown = int(np.argmax([sum(1 - w for w in map(int, r.written)) for r in self.rollouts]))
        return (
            "<div class='tex2jax_ignore mathjax_ignore' style='background:#fff;color:#222;"
            "font:13px/1.5 system-ui,sans-serif;max-width:60em'>"
            f"<p><b>{escape(clean(self.record.problem.question))}</b><br>The teacher's tools: "
            f"{escape(', '.join(self.record.trajectory.tool_names))}; its answer: "
            f"{escape(' or '.join(self.record.problem.answers))}</p>{table}"
            f"<p>Rollout {shown}, token by token: "
            f"<span style='{TOKEN};background:{WRITTEN}'>written by the student, trained</span> "
            f"<span style='{TOKEN};background:{MASKED}'>tool results, masked from the loss</span>"
            f"</p><div style='font-family:ui-monospace,monospace;font-size:12px'>"
            f"{self.tokens_html(shown)}</div></div>"
        )

    def __str__(self) -> str:
        return f"{self.record.problem.question}\n{self.table().round(2).to_string()}"


def preview_group(student: Student, record: Record, reward: Reward,
                  config: TrainConfig) -> GroupPreview:
    """Sample `config.group_size` rollouts of a record's problem as the first step of a training
    would, and score them. Nothing is trained or stored."""
    sampling = Sampling(config.temperature, config.top_p, config.top_k, config.max_turns,
                        config.max_new_tokens, seed=step_seed(config.seed, 1))
    rollouts = sorted(run_rollouts(student, [record.problem] * config.group_size, sampling),
                      key=lambda r: r.number)
    scores = [reward(record.problem, record.trajectory, r.trajectory("student")) for r in rollouts]
    scale = config.scale_rewards == "group"
    advantages = group_advantages([[s.total for s in scores]], scale=scale)[0]
    pieces = [tuple(student.tokenizer.decode([i]) for i in r.completion) for r in rollouts]
    return GroupPreview(record, tuple(rollouts), tuple(scores), advantages, tuple(pieces))
