from hypothesis import given
from hypothesis import strategies as st

from dimoo_core.settings import ImageSettings
from manifests.row.parse import Row
from pipeline.rows.flow import nth_seed, row_seed


def row(row_id: str, index: int = 0, seed: int | None = None) -> Row:
    settings = ImageSettings()
    return Row(index=index, id=row_id, task="text_to_image", prompt="p", image=None, settings=settings, seed=seed)


def test_a_row_that_gives_a_seed_keeps_it() -> None:
    assert row_seed(row("a", seed=5), 0) == row_seed(row("b", seed=5), 1) == 5
    assert row_seed(row("a", seed=0), 3) == 0


@given(st.text(), st.integers(0, 2**63), st.integers(0, 10**12))
def test_a_seed_depends_on_job_and_id_alone_and_fits_a_column(row_id: str, job_seed: int, index: int) -> None:
    seed = row_seed(row(row_id, index), job_seed)
    assert 0 <= seed < 2**63
    assert seed == row_seed(row(row_id), job_seed)


def test_seeds_differ_by_job_and_by_id() -> None:
    assert len({row_seed(row(row_id), job_seed) for row_id in "abc" for job_seed in range(3)}) == 9


def test_seeds_stay_what_they_are() -> None:
    """A change would give other results to the same manifest."""
    assert row_seed(row("a"), 0) == 6841154156042874738


@given(st.integers(0, 2**63 - 1))
def test_the_first_image_has_the_rows_seed_and_the_others_each_their_own(seed: int) -> None:
    seeds = [nth_seed(seed, number) for number in range(64)]
    assert seeds[0] == seed
    assert len(set(seeds)) == 64
    assert all(0 <= each < 2**63 for each in seeds)


def test_seeds_of_further_images_stay_what_they_are() -> None:
    assert nth_seed(0, 1) == 3388753176835159228
