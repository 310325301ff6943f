"""Layer 6: trains and evaluates any task. Of jaxvision it imports `core` only."""

from jaxvision.core.digest import state_digest
from jaxvision.engine.checkpoint import (
    CHECKPOINTS,
    Checkpoints,
    Restored,
    Weights,
    has_checkpoints,
    restore_weights,
)
from jaxvision.engine.errors import DamagedError, NonFiniteError
from jaxvision.engine.evaluation import (
    Evaluation,
    evaluate,
    evaluation_step,
    make_evaluate,
    metric_names,
)
from jaxvision.engine.history import Best, History
from jaxvision.engine.keys import seed_array
from jaxvision.engine.loop import Fitted, fit, train_steps
from jaxvision.engine.parallel import Parallel
from jaxvision.engine.phases import Phase, decay_mask
from jaxvision.engine.profile import check_profile
from jaxvision.engine.progress import log, progress_bar
from jaxvision.engine.selection import Selection
from jaxvision.engine.traced_step import step_digest
from jaxvision.engine.update import abstract_state, init_state, make_update, place_state
from jaxvision.engine.workdir import RUN, read_run

__all__ = [
    "CHECKPOINTS",
    "RUN",
    "Best",
    "Checkpoints",
    "DamagedError",
    "Evaluation",
    "Fitted",
    "History",
    "NonFiniteError",
    "Parallel",
    "Phase",
    "Restored",
    "Selection",
    "Weights",
    "abstract_state",
    "check_profile",
    "decay_mask",
    "evaluate",
    "evaluation_step",
    "fit",
    "has_checkpoints",
    "init_state",
    "log",
    "make_evaluate",
    "make_update",
    "metric_names",
    "place_state",
    "progress_bar",
    "read_run",
    "restore_weights",
    "seed_array",
    "state_digest",
    "step_digest",
    "train_steps",
]
