"""A mask on its image: where it paints, and what stays."""

from PIL import Image

from dimoo_core.codec.resize import centered, fit_as_planned, unscaled_plan
from manifests.row.mask import Mask
from pipeline.rows.inpaint import kept_pixels, painted_pixels, painted_tokens
from tests.support.manifest_rows import picture


def test_up_to_the_models_area_nothing_is_scaled_and_only_a_rest_is_cut() -> None:
    image = picture(0, (75, 58))
    cut = fit_as_planned(image, unscaled_plan(image.size), centered)
    assert cut.tobytes() == image.crop((5, 5, 69, 53)).tobytes()


def test_a_larger_image_is_scaled_and_its_mask_with_it() -> None:
    size = (2400, 1200)
    mask = Mask(box=(0, 0, 1200, 1200))
    pixels = painted_pixels(mask, size, None, keeps_box=False)
    fitted = fit_as_planned(pixels, unscaled_plan(size), centered)
    mask_HW = painted_tokens(mask, fitted)
    assert fitted.width * fitted.height <= 1024 * 1024
    assert mask_HW.shape == (fitted.height // 16, fitted.width // 16)
    columns = mask_HW.all(dim=0)
    assert columns.equal(mask_HW.any(dim=0))
    assert abs(int(columns.sum()) - len(columns) / 2) <= 1


def test_an_image_narrower_than_a_token_is_scaled_up_to_one() -> None:
    cut = fit_as_planned(picture(0, (10, 64)), unscaled_plan((10, 64)), centered)
    assert cut.size == (16, 64)


def test_kept_pixels_cover_what_was_painted_there() -> None:
    image, painted = picture(0, (32, 16)), Image.new("RGB", (32, 16), (1, 2, 3))
    mask = Mask(box=(16, 0, 32, 16))
    mask_HW = painted_tokens(mask, painted_pixels(mask, image.size, None, keeps_box=False))
    result = kept_pixels(image, mask_HW).pasted_on(painted)
    assert result.crop((0, 0, 16, 16)).tobytes() == image.crop((0, 0, 16, 16)).tobytes()
    assert result.getpixel((16, 0)) == (1, 2, 3)
