"""``dimoo-batch manifest build``: from every kind of source to rows that a run takes."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.manifest.build import TYPES
from tests.support.manifest_build import build, column, rows, told, write
from tests.support.manifest_rows import encoded, picture


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_csv_becomes_rows_with_the_types_of_the_columns() -> None:
    source = write("p.csv", '\ufeffprompt,width,cfg_scale,split\n"a boat, red",512,2.5,train\na cat,,,test\n')
    report = build(source, "--task", "text_to_image")
    assert report["tasks"] == {"text_to_image": 2}
    assert rows() == [
        {"task": "text_to_image", "prompt": "a boat, red", "width": 512, "cfg_scale": 2.5, "split": "train"},
        {"task": "text_to_image", "prompt": "a cat", "width": None, "cfg_scale": None, "split": "test"},
    ]


def test_json_lines_keep_types_and_taken_names_are_renamed() -> None:
    lines = [
        {"caption": "a boat", "score": 0.5, "text": "old", "tags": ["a", "b"]},
        {"caption": "a cat", "score": None, "text": None, "tags": []},
    ]
    write("p.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    build("p.jsonl", "--task", "text_to_image", "--rename", "caption=prompt", "--set", "mood=calm")
    first = rows()[0]
    assert first == {
        "task": "text_to_image", "prompt": "a boat", "score": 0.5, "source_text": "old", "tags": ["a", "b"],
        "mood": "calm",
    }  # fmt: skip


def test_a_list_of_prompts_is_sampled_and_split_the_same_way_each_time() -> None:
    source = write("p.txt", "\n".join(f"prompt {number}" for number in range(300)))
    options = ("--task", "text_to_image", "--sample", 100, "--splits", "train=0.8,test=0.2")
    build(source, *options)
    first = {split: column("prompt", f"manifest-{split}.parquet") for split in ("train", "test")}
    assert len(first["train"]) + len(first["test"]) == 100
    assert 8 <= len(first["test"]) <= 35
    assert not set(first["train"]) & set(first["test"])
    build(source, *options, "--overwrite")
    assert first == {split: column("prompt", f"manifest-{split}.parquet") for split in ("train", "test")}
    numbers = [int(prompt.split()[1]) for prompt in first["train"]]
    assert numbers == sorted(numbers)


def test_templates_are_filled_with_every_combination_and_columns() -> None:
    write("animals.txt", "cat\ndog\n")
    build("--prompt", "a {color} {animal}, {{raw}}", "--var", "color=red, blue", "--var", "animal=@animals.txt",
          "--task", "text_to_image", "--repeat", "2")  # fmt: skip
    assert column("prompt")[::2] == [
        "a red cat, {raw}", "a red dog, {raw}", "a blue cat, {raw}", "a blue dog, {raw}",
    ]  # fmt: skip
    assert column("seed")[:2] == [0, 1]
    assert len(set(column("id"))) == 8
    write("p.csv", "place\nsea\n")
    build("p.csv", "--prompt", "{place} at {time}", "--var", "time=noon,dusk", "--task", "text_to_image", "--overwrite")
    assert column("prompt") == ["sea at noon", "sea at dusk"]


def test_a_template_without_a_value_names_it() -> None:
    write("p.csv", "place\nsea\n")
    words = build("p.csv", "--prompt", "{plaec}", "--task", "text_to_image", exit_code=2)["message"]
    assert "the template needs 'plaec'" in words
    assert "place" in words


def test_invalid_rows_end_the_build_or_are_left_out_with_reasons() -> None:
    source = write("p.csv", "prompt,width\na boat,100\na cat,wide\na dog,64\n")
    assert (
        "p.csv, line 2: width must be a multiple of 16"
        in build(source, "--task", "text_to_image", exit_code=2)["message"]
    )
    assert not Path("manifest.parquet").exists()
    report = build(source, "--task", "text_to_image", "--skip-invalid")
    assert (report["rows"], report["invalid"]) == (1, 2)
    assert "line 3: width must be one whole number" in report["reasons"][1]


def test_equal_rows_are_left_out() -> None:
    report = build(write("p.txt", "a\nb\na\na\n"), "--task", "text_to_image", "--dedupe", "exact")
    assert (report["rows"], report["duplicates"]) == (2, 2)
    assert column("prompt") == ["a", "b"]


def photos(folder: str) -> None:
    Path(folder, "more").mkdir(parents=True)
    Path(folder, "a.png").write_bytes(encoded(picture(1, (96, 64))))
    Path(folder, "more/b.jpg").write_bytes(encoded(picture(1, (96, 64)), "JPEG", quality=60))
    Path(folder, "more/c.webp").write_bytes(encoded(picture(1, (96, 64)).resize((48, 32)), "WEBP"))
    Path(folder, "d.png").write_bytes(encoded(picture(2, (96, 64))))
    Path(folder, "notes.md").write_text("no image")


def test_a_folder_of_images_becomes_rows_that_name_them() -> None:
    photos("photos")
    build("photos", "--task", "caption")
    assert column("image") == ["photos/a.png", "photos/d.png", "photos/more/b.jpg", "photos/more/c.webp"]
    build("photos", "--task", "caption", "--to", "elsewhere/m.parquet")
    assert all(Path(image).is_absolute() and Path(image).is_file() for image in column("image", "elsewhere/m.parquet"))


def test_images_that_look_alike_are_left_out() -> None:
    photos("photos")
    report = build("photos", "--task", "caption", "--dedupe", "images")
    assert report["duplicates"] == 2
    assert column("image") == ["photos/a.png", "photos/d.png"]


def test_plain_images_of_other_colours_are_no_duplicates() -> None:
    Path("plain").mkdir()
    for name, color in (("a", "red"), ("b", "blue"), ("c", (254, 1, 0))):
        Image.new("RGB", (40, 30), color).save(f"plain/{name}.png")
    build("plain", "--task", "caption", "--dedupe", "images")
    assert column("image") == ["plain/a.png", "plain/b.png"]


def test_an_image_that_cannot_be_read_is_an_invalid_row() -> None:
    photos("photos")
    Path("photos/broken.png").write_bytes(b"not an image")
    assert (
        "broken.png is not an image"
        in build("photos", "--task", "caption", "--dedupe", "images", exit_code=2)["message"]
    )
    assert build("photos", "--task", "caption", "--dedupe", "images", "--skip-invalid")["invalid"] == 1


def test_images_are_embedded_when_asked() -> None:
    photos("photos")
    write("p.csv", "image,label\na.png,3\n")
    build("p.csv", "--images", "photos", "--embed", "--task", "caption")
    assert column("image") == [{"bytes": Path("photos/a.png").read_bytes(), "path": "a.png"}]


def tar(name: str, files: dict[str, bytes]) -> str:
    with tarfile.open(name, "w") as archive:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return name


def test_archives_of_samples_become_rows_with_embedded_images() -> None:
    image = encoded(picture(1))
    tar("s.tar", {"./x/0.png": image, "./x/0.txt": b"a boat ", "./x/0.json": b'{"score": 2}', "./x/1.seg.png": image})
    build("s.tar", "--task", "caption")
    assert rows() == [
        {"id": "x/0", "task": "caption", "image": {"bytes": image, "path": "0.png"}, "txt": "a boat", "score": 2},
        {"id": "x/1", "task": "caption", "image": {"bytes": image, "path": "1.seg.png"}, "txt": None, "score": None},
    ]


def test_the_picture_of_a_sample_wins_over_what_its_json_names() -> None:
    image = encoded(picture(1))
    named = b'{"image": "photos/F3.JPG", "images": ["a.png"], "txt": "a cat"}'
    Path("b.png").write_bytes(image)
    tar("s.tar", {"0.json": named, "0.png": image, "0.txt": b"a boat", "1.json": b'{"image": "b.png"}'})
    build("s.tar", "--task", "caption")
    first, second = rows()
    assert first["image"] == {"bytes": image, "path": "0.png"}
    assert (first["image_uri"], first["images_given"], first["txt"]) == ("photos/F3.JPG", ["a.png"], "a boat")
    assert second["image"] == {"bytes": image, "path": "b.png"}


def test_parquet_keeps_the_types_of_columns_that_pass_through() -> None:
    table = pa.table({"caption": ["a", "b"], "n": pa.array([1, None], pa.uint8()), "v": [[0.5], []]})
    pq.write_table(table, "hf.parquet")
    build("hf.parquet", "--rename", "caption=prompt", "--task", "text_to_image")
    schema = pq.read_schema("manifest.parquet")
    assert (schema.field("n").type, schema.field("v").type) == (pa.uint8(), pa.list_(pa.float64()))


def test_types_are_told_from_the_first_rows_and_may_be_given() -> None:
    many = [{"prompt": "a", "v": number} for number in range(2100)] + [{"prompt": "a", "v": "x"}]
    write("p.jsonl", "\n".join(map(json.dumps, many)))
    message = build("p.jsonl", "--task", "text_to_image", exit_code=2)["message"]
    assert "p.jsonl, line 2101: column 'v' has type int64, got 'x'" in message
    write("q.jsonl", '{"prompt": "a", "v": "1"}\n{"prompt": "b", "v": "x"}\n')
    build("q.jsonl", "--task", "text_to_image", "--type", "v=string")
    assert column("v") == ["1", "x"]
    assert set(TYPES) == {"string", "int", "float", "bool"}


def test_rows_are_written_in_tables_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.manifest.table.MAX_TABLE_ROWS", 100)
    count = 110
    write("p.txt", "\n".join(f"prompt {number}" for number in range(count)))
    assert build("p.txt", "--task", "text_to_image", "--to", "folder")["files"] == [
        str(Path("folder/rows-00000.parquet").absolute())
    ]
    metadata = pq.read_metadata("folder/rows-00000.parquet")
    assert metadata.num_rows == count
    assert metadata.num_row_groups == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.csv", "--from", "tsv"), "--from must be one of auto, csv"),
        (("empty",), "nothing to read at"),
        (("p.csv",), "p.csv: no column 'task' and no --task: give --task, see dimoo-batch tasks"),
        (("p.csv", "--task", "text_to_imag"), "did you mean 'text_to_image'?"),
        (("p.csv", "--task", "text_to_image", "--splits", "a=0.5"), "splits must be positive shares that add up to 1"),
        (("p.csv", "--task", "text_to_image", "--rename", "x"), "--rename needs NAME=VALUE"),
        (("p.csv", "--task", "text_to_image", "--dedupe", "fuzzy"), "--dedupe must be none, exact or images"),
        ((), "nothing to build from"),
        (("bad.csv", "--task", "text_to_image"), "bad.csv, line 3: more cells than columns in the header"),
        (("near.csv", "--task", "caption"), "column 'max_new_tokens' looks like 'max_tokens'"),
        (("p.csv", "--task", "text_to_image", "--to", "there.parquet"), "there.parquet exists already"),
        (("p.csv", "--prompt", "a {x!r}", "--var", "x=1"), "only column names in braces"),
        (("cut.tar", "--task", "caption"), "cut.tar is not a complete tar archive"),
    ],
)  # fmt: skip
def test_wrong_input_ends_with_2_and_says_what_to_do(arguments: tuple[str, ...], words: str) -> None:
    write("p.csv", "prompt\na boat\n")
    write("bad.csv", "prompt\na\nb,c\n")
    write("near.csv", "image,max_new_tokens\na.png,8\n")
    write("there.parquet", "")
    write("there-2.parquet", "")
    Path("empty").mkdir()
    Path(tar("cut.tar", {"a.png": b"x" * 2000})).write_bytes(Path("cut.tar").read_bytes()[:1000])
    assert words in build(*arguments, exit_code=2)["message"]


def test_rows_that_will_give_the_same_result_are_told_but_kept() -> None:
    source = write("p.txt", "a boat\na cat\na boat\na boat\n")
    assert build(source, "--task", "text_to_image")["repeats"] == 2
    assert column("prompt") == ["a boat", "a cat", "a boat", "a boat"]
    assert "2 duplicate rows. Drop them with --dedupe exact" in told(source, "--task", "text_to_image")
    assert build(source, "--task", "text_to_image", "--repeat", 2, "--dedupe", "exact", "--overwrite")["repeats"] == 0


def test_broken_images_of_a_folder_are_left_out_where_they_are_looked_at() -> None:
    Path("photos").mkdir()
    Path("photos/a.png").write_bytes(encoded(picture(1)))
    Path("photos/b.jpg").write_text("no image")
    Path("photos/c.png").write_bytes(encoded(picture(2))[:60])
    assert build("photos", "--task", "caption")["rows"] == 3
    report = build("photos", "--task", "caption", "--check-images", "--skip-invalid", "--overwrite")
    assert (report["rows"], report["invalid"]) == (1, 2)
    assert column("image") == ["photos/a.png"]
    message = build("photos", "--task", "caption", "--check-images", "--overwrite", exit_code=2)["message"]
    assert "photos/b.jpg is not an image" in message
