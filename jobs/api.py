"""What commands and programs use of ``jobs``, in one place. The module of a name is imported when the name is used.

So ``--help`` answers at once, though nothing here is wrapped: a name is the function or class itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.export.export import ExportRequest, export_run
    from jobs.export.formats import FORMATS
    from jobs.manifest.build import build_manifest
    from jobs.manifest.inspect import shown_lines, validate_manifest
    from jobs.manifest.request import BuildReport, BuildRequest, constant_cell, listed_values, name_value_pairs
    from jobs.plan.lines import find_gpus, plan_json, plan_lines
    from jobs.plan.plan import plan_run
    from jobs.plan.probe import probe_plan
    from jobs.plan.row_cost import read_model_facts
    from jobs.progress.log import LEVELS, begin
    from jobs.report.write import write_report
    from jobs.run.resume import ResumeOptions
    from jobs.run.retry import retry_job
    from jobs.run.retry_plan import RetryOptions
    from jobs.run.run import run_job
    from jobs.run.summary import summary_lines
    from jobs.spec.resolve import resolved_spec
    from jobs.spec.spec import JobSpec, load_spec
    from jobs.tools.bench import BenchOptions, measure_machine
    from jobs.tools.bench_cases import BenchTask, bench_lines
    from jobs.tools.catalog import model_entries, reference_entries, task_entries
    from jobs.tools.doctor import diagnose
    from jobs.tools.replay import replay_row
    from jobs.tools.status import MAX_PARTS_READ, read_status
    from jobs.tools.verify import VerifyOptions, verify_output

_NAMES = {
    "jobs.export.export": "ExportRequest export_run",
    "jobs.export.formats": "FORMATS",
    "jobs.manifest.build": "build_manifest",
    "jobs.manifest.inspect": "shown_lines validate_manifest",
    "jobs.manifest.request": "BuildReport BuildRequest constant_cell listed_values name_value_pairs",
    "jobs.plan.lines": "find_gpus plan_json plan_lines",
    "jobs.plan.plan": "plan_run",
    "jobs.plan.probe": "probe_plan",
    "jobs.plan.row_cost": "read_model_facts",
    "jobs.progress.log": "LEVELS begin",
    "jobs.report.write": "write_report",
    "jobs.run.resume": "ResumeOptions",
    "jobs.run.retry": "retry_job",
    "jobs.run.retry_plan": "RetryOptions",
    "jobs.run.run": "run_job",
    "jobs.run.summary": "summary_lines",
    "jobs.spec.resolve": "resolved_spec",
    "jobs.spec.spec": "JobSpec load_spec",
    "jobs.tools.bench": "BenchOptions measure_machine",
    "jobs.tools.bench_cases": "BenchTask bench_lines",
    "jobs.tools.catalog": "model_entries reference_entries task_entries",
    "jobs.tools.doctor": "diagnose",
    "jobs.tools.replay": "replay_row",
    "jobs.tools.status": "MAX_PARTS_READ read_status",
    "jobs.tools.verify": "VerifyOptions verify_output",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(_MODULE_OF)
