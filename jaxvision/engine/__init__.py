"""Floor 6: trains any task. Of the project it imports `core` only."""

from jaxvision.core.digest import state_digest
from jaxvision.engine.checkpoint import Checkpoints, Restored, has_checkpoints
from jaxvision.engine.errors import DamagedError, NonFiniteError
from jaxvision.engine.evaluate import Evaluation, make_evaluate
from jaxvision.engine.history import Criterion
from jaxvision.engine.journal import Journal
from jaxvision.engine.loop import CHECKPOINTS, Fitted, fit, train_steps
from jaxvision.engine.optimizer import Optimizer, make_optimizer, make_optimizers, optimizer_after
from jaxvision.engine.parallel import Parallel
from jaxvision.engine.progress import say
from jaxvision.engine.run import Run
from jaxvision.engine.selection import Selection
from jaxvision.engine.update import abstract_state, init_state, make_update, make_updates
from jaxvision.engine.workdir import read_config
from jaxvision.features.linear_probe import L2_GRID, LinearProbe, choose_l2, fit_linear_probe
from jaxvision.interop.transfer import Transfer, transfer

__all__ = [
    "CHECKPOINTS",
    "L2_GRID",
    "Checkpoints",
    "Criterion",
    "DamagedError",
    "Evaluation",
    "Fitted",
    "Journal",
    "LinearProbe",
    "NonFiniteError",
    "Optimizer",
    "Parallel",
    "Restored",
    "Run",
    "Selection",
    "Transfer",
    "abstract_state",
    "choose_l2",
    "fit",
    "fit_linear_probe",
    "has_checkpoints",
    "init_state",
    "make_evaluate",
    "make_optimizer",
    "make_optimizers",
    "make_update",
    "make_updates",
    "optimizer_after",
    "read_config",
    "say",
    "state_digest",
    "train_steps",
    "transfer",
]
