"""The part of the job spec about rows that only want an image's codes."""

from jobs.spec.section import ResolutionValue, Section


class TokenizeSpec(Section):
    """How input images are cropped before they are encoded; codes for training want the crop that training uses."""

    resolution: ResolutionValue = 1024
    random_crop: bool = False
