"""Students: small language models that learn to use tools. torch and transformers live here and in training.

Importing this package makes torch compute on one CPU thread unless OMP_NUM_THREADS says otherwise: small students gain
little from more, two jobs with two threads each on two cores are far slower, and the same seed gives the same bytes in
JupyterLab as in a batch. It imports neither transformers nor TRL: Unsloth, where it is used, must come before them.
"""

import os

import datasets
import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

datasets.disable_progress_bars()
