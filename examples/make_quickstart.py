"""Build ``quickstart.parquet``: prompts of the kind people use, photographs under free licences, one broken row.

The photographs come with scikit-image: astronaut Eileen Collins (NASA, public domain), Chelsea the cat (Stefan van
der Walt, CC0), a coffee cup (Pikolo Espresso Bar, CC0) and a rocket on its pad (SpaceX, CC0).

    python examples/make_quickstart.py [TARGET]
"""

import io
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from skimage import data

SIZES = ((256, 256), (384, 256))

PROMPTS = (
    "A striking photograph of a glass of orange juice on a wooden kitchen table, morning light, shallow depth of field",
    "An astronaut riding a horse across a field of sunflowers, oil painting with thick brush strokes",
    "A cozy reading nook by a rainy window, warm lamp, a sleeping cat on a knitted blanket, isometric 3D render",
    "Studio portrait of an elderly fisherman with a white beard, dramatic side lighting, black background",
    "A red bicycle leaning against a brick wall in Amsterdam, film photography, soft afternoon light",
    "Two blue cubes and one green sphere on a white floor, ray traced, soft shadows",
    "A watercolor of a small fox reading a map under a mushroom, children's book illustration",
    'A neon sign that says "OPEN LATE" above a ramen shop, wet street, reflections, night',
    "Aerial view of terraced rice fields at sunrise, mist in the valley, ultra detailed",
    "A minimalist logo of a mountain and a wave in two colors, flat vector art",
    "A futuristic greenhouse on Mars, people tending tomato plants, wide angle, golden hour",
    "A bowl of fresh strawberries and cream on a marble counter, food photography, top view",
)

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("prompt", pa.string()),
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source", pa.string()),  # not a column of ours: it passes through to the output
    ]
)


def main(target: Path) -> None:
    """Write the manifest."""
    rows: list[dict[str, Any]] = [
        {
            "id": f"draw-{number:02}",
            "task": "text_to_image",
            "prompt": prompt,
            "width": SIZES[number % 2][0],
            "height": SIZES[number % 2][1],
            "source": "written for this quickstart",
        }
        for number, prompt in enumerate(PROMPTS, 1)
    ]
    photographs = {name: _jpeg(getattr(data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")}
    questions = {"astronaut": "What is the person in the picture wearing?", "coffee": "Is the cup full or empty?"}
    for name, image in photographs.items():
        rows.append({"id": f"caption-{name}", "task": "caption", "image": image, "source": f"scikit-image {name}"})
    for name, question in questions.items():
        row = {"id": f"ask-{name}", "task": "vqa", "prompt": question, "image": photographs[name]}
        rows.append(row | {"source": f"scikit-image {name}"})
    rows.append(
        {
            "id": "broken-on-purpose",
            "task": "caption",
            "image": photographs["rocket"][:2000],
            "source": "a photograph of which most bytes are missing",
        }
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), target, compression="none")


def _jpeg(pixels: Any) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((384, 384))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("quickstart.parquet"))
