"""``draw_run.py OUT/``: write run.svg, a picture of what a terminal shows of the finished run in the folder OUT."""

import io
import json
import sys
from pathlib import Path

from rich.console import Console

from tunesmith.cli.report import summary
from tunesmith.cli.view import Board, Row, duration, result_detail
from tunesmith.local.record import read_record

TARGET = Path(__file__).with_name("run.svg")
COLUMNS = 110


def main() -> None:
    """The command, the board of its stages with their times, and the report."""
    out = Path(sys.argv[1])
    record = read_record(out)
    if record is None:
        sys.exit(f"{out} holds no run")
    rows = {
        name: Row(name, "done", 100, result_detail(stage.result), seconds=stage.result.seconds)
        for name, stage in record.stages.items()
    }
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), markup=False, emoji=False, highlight=False)
    console.print("$ tunesmith run examples/quickstart.yaml --output out/")
    console.print(Board(rows, "street-reports -> out").table())
    console.print(summary(json.loads((out / "report.json").read_text())))
    console.print("Files: out/\nChat:  tunesmith chat out/")
    console.save_svg(str(TARGET), title="tunesmith run")
    print(f"written: {TARGET}, stages of {duration(sum(row.seconds or 0 for row in rows.values()))} in all")


if __name__ == "__main__":
    main()
