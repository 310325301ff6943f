"""Descriptions of runs, as they are in run.json."""


def run_description(**parts):
    """That of a run of nothing, with some of its parts replaced."""
    fit, changes = {"steps": 20, "batch_size": 8}, parts.pop("fit", {})
    return {
        "format": 1,
        "versions": {},
        "kind": "classification",
        "task": {},
        "fit": {**fit, **changes} if isinstance(changes, dict) else changes,
        "options": {},
        "code": {},
        "step_digest": [],
        "data_start": None,
        **parts,
    }
