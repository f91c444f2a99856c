"""Options and arguments that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[str, typer.Argument(help="Output of a run; a path or s3://…")]
Manifest = Annotated[str, typer.Argument(help="Parquet file, or folder of them; a path or s3://…")]
MovedManifest = Annotated[str | None, typer.Option(help="Where the manifest is now. (default: where the run found it)")]
Model = Annotated[str | None, typer.Option(help="Checkpoint directory, or hub id OWNER/NAME or OWNER/NAME@REVISION.")]
Workers = Annotated[
    int | None, typer.Option(help="Ray workers; 0 works in this process. (default: one per GPU, else 0)")
]
Spec = Annotated[Path | None, typer.Option(help="Job spec, YAML or TOML; flags win over it.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one key of the spec; repeatable.")
]
AcceptChange = Annotated[
    list[str] | None, typer.Option(metavar="KEY", help="Continue even though this setting changed; repeatable.")
]
Hooks = Annotated[
    list[str] | None,
    typer.Option(
        "--hook",
        metavar="HOOK",
        help="module:function or ./file.py:function, called with each row; repeatable.",
        rich_help_panel="Rows",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]
AsJsonArray = Annotated[bool, typer.Option("--json", help="Print one JSON array for programs.")]
LogLevel = Annotated[
    str, typer.Option("--log-level", metavar="LEVEL", help="Lowest level to report: debug, info, warning or error.")
]
LogJson = Annotated[
    bool, typer.Option("--log-json", help="Report events as JSON lines on standard error, instead of a panel.")
]
