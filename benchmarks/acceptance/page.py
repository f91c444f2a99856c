"""The page of an acceptance run, in Markdown, from its result file: nothing is on it that the file does not hold."""

from collections.abc import Iterable, Sequence
from typing import Any

_HOW = """\
## How to read it

- Both implementations get the same weights from the same files, by turns: one is loaded, runs all rows and is freed
  before the other is loaded. Input images are encoded once, by the engine's codec; whether the reference's codec gives
  the same codes is in the table of sequences. Images take the same draws from a generator with the row's seed, in the
  type in which the reference draws; answers are greedy.
- *Equal* counts rows all of whose tokens agree. *First difference* is the earliest step after which the targets
  differ, and how near the engine's own decisions there were to those of the reference: the gap between the scores of
  two ids, or between a confidence and the edge of the mask, in logits or log-probability; the smallest and the largest.
- In float32 tokens must be equal. A row that parts at no more than 4 positions, one of them closer than 0.001, is said
  to part by *rounding*: the order of sums on a GPU explains it. Any other difference is an error. In bfloat16 nothing
  is asked: the reference samples in that type, where many scores are equal, and the engine in float32.
- Sequences must be equal in every type: they are integers. Not so the codes of input images, which a network makes.
- Seconds are those of generation alone, one request at a time, after a warm-up, without encoding and decoding, with the
  recording of steps on both sides. Peak memory is above what was held before the turn, which is both image codecs.
- Presets are set against the engine computing exactly: equal tokens, and PSNR and SSIM of the decoded images by
  torchmetrics. PSNR is the mean over images that are not equal.
"""


def page(result: dict[str, Any]) -> str:
    """The whole page; pictures are linked by file name."""
    sections = [
        _head(result),
        _ids(result),
        _sequences(result),
        _tokens(result),
        _costs(result),
        _presets(result),
        _answers(result),
        _pictures(result),
        _left_out(result),
        _HOW,
    ]
    return "\n".join(section for section in sections if section)


def _head(result: dict[str, Any]) -> str:
    failures = result["failures"]
    verdict = "**Accepted**: nothing differs that must not." if not failures else "**Not accepted**:"
    about = {
        "Checkpoint": result["model"],
        "Reference": result["reference"],
        "Device": result["device"],
        "Torch": result["torch"],
        "Commit of the engine": result["commit"],
        "Dtypes": ", ".join(result["settings"]["dtypes"]),
        "Rows asked for": result["settings"]["rows"],
        "Steps of an image": result["settings"]["steps"],
        "Took": f"{result['took_s'] / 60:.1f} min, expected {result['expected']['total_s'] / 60:.1f} min",
    }
    lines = ["# Acceptance", "", verdict, *(f"- {_cell(failure)}" for failure in failures), ""]
    if not failures and result["left_out"]:
        num_left = len({one["row"] for one in result["left_out"]})
        lines += [f"{num_left} rows were left out of one turn or more, see [below](#left-out).", ""]
    if result["is_random"]:
        lines += ["The weights are random: images and answers mean nothing, and neither does what presets lose.", ""]
    return "\n".join([*lines, *_table(("", ""), about.items())])


def _ids(result: dict[str, Any]) -> str:
    ids, constants = result["ids"], result["reference_ids"]
    rows = [(role, one["id"], constants.get(role, ""), one["token"]) for role, one in ids["special"].items()]
    rows.append(("image_offset", ids["image_offset"], constants["image_offset"], ids["first_code_token"]))
    rows.append(("last image code", ids["image_offset"] + ids["num_codes"] - 1, "", ids["last_code_token"]))
    rows += [("of prompts", token_id, "", name) for name, token_id in ids["prompts"].items()]
    return "\n".join(
        [
            "\n## Ids",
            "",
            *_table(("role", "engine", "reference's constant", "token"), rows),
            "",
            f"The id of image code 0 by every source: {_cell(ids['offsets_in_words'])}. The reference reads the logits "
            f"of images from column {ids['reference_offset']} on.",
        ]
    )


def _sequences(result: dict[str, Any]) -> str:
    lines = ["\n## Sequences", ""]
    if result["sequences"] is None:
        return "\n".join(
            [*lines, "Not compared: the checkpoint's ids are not those that the reference has as constants."]
        )
    lines += ["Prompts, special tokens and input images as the reference's own functions lay them out.", ""]
    rows = []
    for task, members in _by(result["sequences"], "task"):
        num_codes = sum(one["num_codes"] for one in members)
        equal = sum(round(one["num_codes"] * (one["equal_codes"] or 0)) for one in members)
        codes = f"{equal:,} of {num_codes:,}" if num_codes else "none"
        rows.append((task, f"{sum(one['is_equal'] for one in members)} of {len(members)}", codes))
    return "\n".join([*lines, *_table(("task", "equal", "equal codes of images"), rows)])


def _tokens(result: dict[str, Any]) -> str:
    rows = []
    for (dtype, task), members in _by(result["comparisons"], "dtype", "task"):
        verdicts = [one["verdict"] for one in members]
        parted = [one["difference"] for one in members if one["difference"]]
        first = min(parted, key=lambda one: one["step"], default=None)
        margins = "" if first is None else f"{_small(first['closest'])} to {_small(first['widest'])}"
        rows.append(
            (
                task,
                dtype,
                f"{verdicts.count('equal')} of {len(members)}",
                verdicts.count("rounding") or "",
                _share(members),
                "" if first is None else f"step {first['step'] + 1}, {first['num_positions']} positions",
                margins,
            )
        )
    columns = ("task", "dtype", "equal", "rounding", "equal tokens", "first difference", "margin there")
    return "\n".join(["\n## Tokens", "", *(_table(columns, rows) if rows else ["No row was compared."])])


def _costs(result: dict[str, Any]) -> str:
    rows = []
    for turn in result["turns"]:
        seconds = [one["seconds"] for one in result["runs"] if one["turn"] == turn["turn"]]
        peak = "unknown" if turn["peak_bytes"] is None else f"{turn['peak_bytes'] / 1e9:.2f} GB"
        rows.append((turn["turn"], len(seconds), f"{sum(seconds):.2f}", f"{turn['load_s']:.1f}", peak))
    lines = ["\n## Seconds and memory", "", *_table(("turn", "rows", "s", "s to load", "peak memory"), rows)]
    by_row = [
        (one["row"], one["dtype"], f"{one['reference_s']:.2f}", f"{one['engine_s']:.2f}", one["verdict"])
        for one in result["comparisons"]
    ]
    return "\n".join([*lines, "", *_table(("row", "dtype", "reference, s", "engine, s", "tokens"), by_row)])


def _presets(result: dict[str, Any]) -> str:
    if not result["presets"]:
        return ""
    rows = []
    for (preset, dtype, task), members in _by(result["presets"], "preset", "dtype", "task"):
        alike = [one["likeness"] for one in members if one["likeness"]]
        psnr = [one["psnr_db"] for one in alike if one["psnr_db"] is not None]
        time_share = sum(one["seconds"] for one in members) / sum(one["exact_s"] for one in members)
        rows.append(
            (
                preset,
                task,
                dtype,
                _share(members),
                f"{sum(psnr) / len(psnr):.1f} dB" if psnr else ("all equal" if alike else ""),
                f"{sum(one['ssim'] for one in alike) / len(alike):.3f}" if alike else "",
                f"{time_share:.2f}",
            )
        )
    columns = ("preset", "task", "dtype", "tokens as exact", "PSNR", "SSIM", "time of exact")
    return "\n".join(["\n## Presets against exact", "", *_table(columns, rows)])


def _answers(result: dict[str, Any]) -> str:
    rows = [
        (one["row"], one["dtype"], *(_code(text) for text in one["answers"]))
        for one in result["comparisons"]
        if one["answers"]
    ]
    return "\n".join(["\n## Answers", "", *_table(("row", "dtype", "reference", "engine"), rows)]) if rows else ""


def _pictures(result: dict[str, Any]) -> str:
    drawn = [one for one in result["comparisons"] if one["picture"]]
    if not drawn:
        return ""
    lines = ["\n## Pictures", "", "Left to right: input images, the reference, the engine exactly, presets.", ""]
    for one in drawn:
        lines += [f"{one['row']}, {one['dtype']}, {one['verdict']}:", "", f"![{one['row']}]({one['picture']})", ""]
    return "\n".join(lines)


def _left_out(result: dict[str, Any]) -> str:
    lines = ["\n## Left out", ""]
    if not result["left_out"]:
        return "\n".join([*lines, "Nothing: every row was run in every turn.", ""])
    rows = [
        (turn, ", ".join(one["row"] for one in members), reason)
        for (turn, reason), members in _by(result["left_out"], "turn", "reason")
    ]
    return "\n".join([*lines, *_table(("turn", "rows", "reason"), rows), ""])


def _by(members: Sequence[dict[str, Any]], *keys: str) -> Iterable[tuple[Any, list[dict[str, Any]]]]:
    """Groups by keys, in the order in which they first occur."""

    def key(one: dict[str, Any]) -> Any:
        return one[keys[0]] if len(keys) == 1 else tuple(one[name] for name in keys)

    groups: dict[Any, list[dict[str, Any]]] = {}
    for one in members:
        groups.setdefault(key(one), []).append(one)
    return list(groups.items())


def _share(members: Sequence[dict[str, Any]]) -> str:
    """Never rounded up to all of them."""
    total = sum(one["tokens"]["num_tokens"] for one in members)
    equal = sum(one["tokens"]["num_equal"] for one in members)
    return f"{equal:,} of {total:,} ({int(1000 * equal / total) / 10:.1f}%)" if total else "none"


def _small(number: float | None) -> str:
    return "far" if number is None else f"{number:.2g}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return [*lines, *(f"| {' | '.join(_cell(value) for value in row)} |" for row in rows)]


def _cell(value: object) -> str:
    """Text that stands in one cell and as it is: a token such as ``<IMAGE>`` is no tag."""
    text = "none" if value is None else str(value)
    if text.startswith("`"):
        return text
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        text = text.replace(character, entity)
    return " ".join(text.split())


def _code(text: str, limit: int = 120) -> str:
    shown = " ".join(text.split()).replace("`", "'").replace("|", "\N{BROKEN BAR}")
    return f"`{shown[:limit]}{'…' if len(shown) > limit else ''}`" if shown else "nothing"
