"""``python -m monai_anat``."""

import sys

from monai_anat.cli import main

if __name__ == "__main__":
    sys.exit(main())
