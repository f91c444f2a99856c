"""What columns are called in exports."""

from jobs.export.base import exported_cells, exported_names, folder_cells, is_folder_column


def test_names_that_the_export_needs_are_given_up_and_others_are_kept() -> None:
    names = ["id", "image", "images", "source_image", "words", "file_name", "scan_file_names"]
    assert list(exported_names(names).values()) == [
        "id", "image_uri", "images", "source_image_given", "words", "file_name", "scan_file_names",
    ]  # fmt: skip
    assert list(exported_names(names, is_folder_column).values()) == [
        "id", "image_uri", "images", "source_image_given", "words_given", "file_name_given", "scan_file_names_given",
    ]  # fmt: skip


def test_no_two_columns_get_one_name() -> None:
    cells = {"image": 1, "image_uri": 2, "source_image": 3, "source_image_given": 4}
    assert exported_cells(cells) == {
        "image_uri_given": 1, "image_uri": 2, "source_image_given_given": 3, "source_image_given": 4,
    }  # fmt: skip


def test_names_of_files_inside_a_cell_are_given_up_and_all_else_in_it_is_kept() -> None:
    cells = {
        "camera": {"file_name": "F3.JPG", "file_name_given": "x", "image": 1, "words": "w",
                   "parts": [{"a_file_names": ["b"]}]},
        "pairs": [("file_name", 1)],
        "file_name": "c",
    }  # fmt: skip
    assert folder_cells(cells) == {
        "camera": {"file_name_given_given": "F3.JPG", "file_name_given": "x", "image": 1, "words": "w",
                   "parts": [{"a_file_names_given": ["b"]}]},
        "pairs": [("file_name", 1)],
        "file_name_given": "c",
    }  # fmt: skip
