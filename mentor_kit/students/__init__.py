"""Students: small language models that learn to use tools. torch and transformers live here and in training.

Importing this package makes the libraries beneath it quiet: their progress bars and notices would bury ours. And torch
computes on one CPU thread unless OMP_NUM_THREADS says otherwise: small students gain little from more, two jobs with
two threads each on two cores are far slower, and the same seed gives the same bytes in JupyterLab as in a batch.
"""

import os

import datasets
import torch
from transformers.utils import logging as transformers_logging

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

datasets.disable_progress_bars()
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()
