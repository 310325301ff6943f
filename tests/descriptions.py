"""Descriptions of runs, as they are in run.json."""


def run_description(**parts):
    """That of a run of nothing, with some of its parts replaced."""
    fit = {"steps": 20, "batch_size": 8, "seed": 0, "ema_decay": 0.0}
    return {
        "format": 1,
        "versions": {},
        "kind": "classification",
        "task": {},
        "fit": {**fit, **parts.pop("fit", {})},
        "options": {},
        "code": {},
        "step_digest": [],
        "data_start": None,
        **parts,
    }
