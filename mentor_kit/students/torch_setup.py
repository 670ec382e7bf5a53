"""How torch computes wherever a student is: on one CPU thread, unless OMP_NUM_THREADS says
otherwise.

Small students gain little from more, two jobs with two threads each on two cores are far slower,
and the same seed gives the same bytes in JupyterLab as in a batch (on one kind of CPU). Imported
for its effect.
"""

import os

import datasets
import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
datasets.disable_progress_bars()
