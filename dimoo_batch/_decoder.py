"""The program of an image decoder, ``python -m dimoo_batch._decoder``: see ``pipeline.images.decoder_process``."""

import sys

from pipeline.images.decoder_process import main

if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
