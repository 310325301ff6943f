"""What a training needs, before anyone rents a device: memory, traffic, collectives, throughput."""

from jaxvision.planning.cost import KINDS, Collective, Cost, cost_of, flops_of
from jaxvision.planning.hardware import HARDWARE, Hardware, Target, parse_target
from jaxvision.planning.hlo import Program, parse_program
from jaxvision.planning.planning import Memory, Plan, StepPlan, plan
from jaxvision.planning.table import describe
from jaxvision.planning.topology import compiler_options, devices_of

__all__ = [
    "HARDWARE",
    "KINDS",
    "Collective",
    "Cost",
    "Hardware",
    "Memory",
    "Plan",
    "Program",
    "StepPlan",
    "Target",
    "compiler_options",
    "cost_of",
    "describe",
    "devices_of",
    "flops_of",
    "parse_program",
    "parse_target",
    "plan",
]
