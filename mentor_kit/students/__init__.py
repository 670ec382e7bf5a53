"""Students: small language models that learn to use tools. torch and transformers live here and in training.

Importing this package makes the libraries beneath it quiet: their progress bars and notices would bury ours.
"""

import datasets
from transformers.utils import logging as transformers_logging

datasets.disable_progress_bars()
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()
