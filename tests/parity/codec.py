"""Kind ``vq``: pixels to codes and back."""

import torch

from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import Comparison, Golden


@torch.inference_mode()
def check(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """Each stage of the codec, then its two whole directions."""
    model = checkpoints.model(golden)
    codec, image, tensors = model.codec, golden.image("image_u8"), golden.tensors
    comparison.equal("image_size_wh", list(image.size), golden.meta["image_size_wh"])
    pixels = codec.pixels(image)
    comparison.close("encoder_input", pixels, tensors["encoder_input"])
    comparison.close("latents", codec.latents(pixels), tensors["latents"])
    (codes_HW,) = codec.encode([image])
    comparison.equal("grid", list(codes_HW.shape), golden.meta["grid"])
    comparison.equal("ids", codes_HW, tensors["ids"].long())
    comparison.equal("tokens_with_breaks", model.layout.image_span(codes_HW), tensors["tokens_with_breaks"].long())

    recorded_codes = tensors["ids"].long()
    comparison.close("recon_unclipped", codec.reconstruction(recorded_codes[None]), tensors["recon_unclipped"])
    (decoded,) = codec.decode([recorded_codes])
    height, width, _ = tensors["decoded_u8"].shape
    comparison.equal("decoded size", [decoded.width, decoded.height], [width, height])
    decoded_u8 = torch.frombuffer(bytearray(decoded.tobytes()), dtype=torch.uint8).view(height, width, 3)
    comparison.close("decoded_u8", decoded_u8, tensors["decoded_u8"], atol=1.0)
