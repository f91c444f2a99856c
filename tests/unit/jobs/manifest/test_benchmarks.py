"""Prompt sets of public benchmarks, in small files of their published formats."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.manifest_rows import encoded, picture
from tests.unit.jobs.manifest.test_build import _in_folder, build, column, rows, write

__all__ = ["_in_folder"]


def test_geneval_prompts_carry_what_its_evaluator_reads() -> None:
    lines = [
        '{"tag": "counting", "include": [{"class": "kite", "count": 2}], "prompt": "a photo of two kites"}',
        '{"tag": "colors", "include": [{"class": "kite", "count": 1, "color": "red"}], "prompt": "a red kite"}',
    ]
    build(write("evaluation_metadata.jsonl", "\n".join(lines)), "--from", "geneval", "--repeat", "4")
    assert column("benchmark_item") == ["00000"] * 4 + ["00001"] * 4
    assert column("sample") == [0, 1, 2, 3] * 2
    assert column("benchmark_metadata")[4] == lines[1]
    assert len(set(column("id"))) == 8


def test_dpg_bench_is_read_from_its_table_and_from_its_folder() -> None:
    header = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
    header += "question_natural_language"
    questions = ["12,a long scene,,1,0,entity,whole,entity - whole (kite),Is there a kite?",
                 '12,a long scene,,2,1,attribute,color,"attribute - color (kite, red)",Is the kite red?',
                 "COCO_7,another scene,,1,0,entity,whole,entity - whole (boat),Is there a boat?"]  # fmt: skip
    build(write("dpg_bench.csv", "\n".join([header, *questions])), "--from", "dpg-bench")
    assert column("benchmark_item") == ["12", "COCO_7"]
    assert column("prompt") == ["a long scene", "another scene"]
    write("prompts/12.txt", "a long scene\n")
    write("prompts/COCO_7.txt", "another scene")
    build("prompts", "--from", "dpg-bench", "--to", "folder.parquet")
    assert rows("folder.parquet") == rows()


def test_oneig_prompts_know_their_folder() -> None:
    table = 'category,id,prompt_en,type,prompt_length,class\nAnime_Stylization,000,"a hero, drawn",T,short,None\n'
    build(write("OneIG-Bench.csv", table + "Portrait,003,a face,NP,long,fauvism\n"), "--from", "oneig-en")
    assert column("benchmark_item") == ["anime/000", "human/003"]


def test_tiif_lines_are_two_prompts_each() -> None:
    line = {"type": "2d_spatial_relation", "short_description": "a cat below a kite", "long_description": "a long tale"}
    build(write("2d.jsonl", json.dumps(line) + "\n"), "--from", "tiif")
    assert column("benchmark_item") == [
        "2d_spatial_relation/short_description/0",
        "2d_spatial_relation/long_description/0",
    ]
    assert column("prompt") == ["a cat below a kite", "a long tale"]


def test_imgedit_edits_become_tasks_with_their_originals() -> None:
    edits = {
        "1082": {"id": "animal/1.png", "prompt": "Make it blue.", "edit_type": "alter"},
        "97": {"id": "animal/2.png", "prompt": "Add a hat.", "edit_type": "add"},
    }
    for edit in edits.values():
        Path("originals/animal").mkdir(parents=True, exist_ok=True)
        Path("originals", edit["id"]).write_bytes(encoded(picture(1)))
    build(write("basic_edit.json", json.dumps(edits)), "--from", "imgedit", "--images", "originals")
    assert column("task") == ["edit", "edit_add"]
    assert column("image") == ["originals/animal/1.png", "originals/animal/2.png"]
    assert column("benchmark_item") == ["1082", "97"]


def test_gedit_images_are_embedded() -> None:
    image = {"bytes": encoded(picture(1)), "path": "a.png"}
    item = {"task_type": "subject-remove", "key": "abc", "instruction": "Remove it.", "instruction_language": "en",
            "input_image": image, "input_image_raw": image, "Intersection_exist": True}  # fmt: skip
    pq.write_table(pa.Table.from_pylist([item]), "gedit.parquet")
    build("gedit.parquet", "--from", "gedit")
    (row,) = rows()
    assert (row["task"], row["image"], row["benchmark_item"]) == ("edit_remove", image, "fullset/subject-remove/en/abc")


def test_another_file_than_the_benchmarks_is_refused() -> None:
    write("p.jsonl", '{"text": "a boat"}\n')
    message = build("p.jsonl", "--from", "geneval", exit_code=2)["message"]
    assert "p.jsonl, line 1: prompt must be text, got None: is this the benchmark's own file?" in message
