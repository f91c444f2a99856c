"""Turn the output of a run into a page and a contact sheet that one can look at.

    python examples/gallery.py OUTPUT [MANIFEST]

Writes ``gallery.html`` (one file, no network) and ``contact-sheet.png`` into a local OUTPUT folder.
"""

import base64
import html
import io
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

CELL_PX, TEXT_PX, COLUMNS = 240, 92, 6

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }}
  main {{ display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }}
  figure {{ margin: 0; border: 1px solid #8884; border-radius: .5rem; overflow: hidden; }}
  img {{ width: 100%; display: block; image-rendering: pixelated; }}
  figcaption {{ padding: .6rem .8rem; overflow-wrap: anywhere; }}
  .answer {{ font-weight: 600; }} .failed {{ border-color: #c33; }} small {{ opacity: .7; }}
</style>
<h1>{title}</h1><p>{subtitle}</p><main>{figures}</main></html>
"""


def main(output: Path, manifest: Path) -> None:
    """Write both files."""
    rows = ds.dataset(output / "parts").to_table().sort_by("row").to_pylist()
    failures = _failures(output)
    sources = {row["id"]: row["image"] for row in pq.read_table(manifest, columns=["id", "image"]).to_pylist()}
    totals = json.loads((output / "_SUCCESS").read_text())
    cells = [_cell(row, output, sources) for row in rows]
    subtitle = f"{totals['rows_done']} rows done, {totals['rows_failed']} failed"
    figures = "".join(_figure(*cell) for cell in cells) + "".join(_failed_figure(failure) for failure in failures)
    page = output / "gallery.html"
    page.write_text(PAGE.format(title=html.escape(manifest.stem), subtitle=subtitle, figures=figures), encoding="utf-8")
    sheet = output / "contact-sheet.png"
    contact_sheet([(image, f"{prompt}  {answer or ''}") for image, prompt, answer in cells]).save(sheet)
    print(f"gallery        {page}\ncontact sheet  {sheet}")


def contact_sheet(cells: list[tuple[Image.Image, str]]) -> Image.Image:
    """Images in rows, each above its text."""
    num_rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (CELL_PX + 10) + 10, num_rows * (CELL_PX + TEXT_PX) + 10), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (image, text) in enumerate(cells):
        left = 10 + number % COLUMNS * (CELL_PX + 10)
        top = 10 + number // COLUMNS * (CELL_PX + TEXT_PX)
        thumbnail = _fitted(image)
        sheet.paste(thumbnail, (left, top + CELL_PX - thumbnail.height))
        printable = "".join(character if character.isprintable() else "·" for character in text)
        draw.text((left, top + CELL_PX + 4), "\n".join(textwrap.wrap(printable, 36)[:5]), fill="black", font=font)
    return sheet


def _fitted(image: Image.Image) -> Image.Image:
    """The image as large as a cell; small ones keep sharp pixels."""
    scale = CELL_PX / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _cell(row: dict[str, Any], output: Path, sources: dict[str, bytes]) -> tuple[Image.Image, str, str | None]:
    if row["output"]:
        return Image.open(output / row["output"]).convert("RGB"), row["prompt"], None
    return Image.open(io.BytesIO(sources[row["id"]])).convert("RGB"), row["prompt"], row["text"]


def _figure(image: Image.Image, prompt: str, answer: str | None) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    source = base64.b64encode(buffer.getvalue()).decode()
    words = f'<div class="answer">{html.escape(answer)}</div>' if answer is not None else ""
    alt = html.escape(prompt, quote=True)
    return (
        f'<figure><img alt="{alt}" src="data:image/png;base64,{source}">'
        f"<figcaption>{html.escape(prompt)}{words}</figcaption></figure>"
    )


def _failed_figure(failure: dict[str, Any]) -> str:
    row_id = html.escape(failure["id"])
    reason = html.escape(f"{failure['stage']}: {failure['message']}")
    return f'<figure class="failed"><figcaption>{row_id} failed<br><small>{reason}</small></figcaption></figure>'


def _failures(output: Path) -> list[dict[str, Any]]:
    folder = output / "_failures"
    return ds.dataset(folder).to_table().sort_by("row").to_pylist() if folder.is_dir() else []


if __name__ == "__main__":
    target = Path(sys.argv[1])
    main(target, Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("quickstart.parquet"))
