"""Print a Markdown table of how every DICOM file of a folder is read, and draw a contact sheet.

Run: ``python tools/dicom_table.py FOLDER [--contact-sheet sheet.png]``. The table holds file names, so use it for
public files only.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from monai_anat.data import RadiographError
from monai_anat.data.preparation.contact_sheet import draw_contact_sheet
from monai_anat.data.preparation.prepare_one import judge
from monai_anat.data.reading.radiograph import decode


def main(folder: Path, sheet: Path | None) -> None:
    """Read every file and print one row of the table for each."""
    pictures = []
    write = partial(print, flush=True)
    write("| file | format | gray values | turned | spacing (mm) | prepare, frontal chest |")
    write("|---|---|---|---|---|---|")
    for path in sorted(folder.rglob("*.dcm")):
        name, frame = str(path.relative_to(folder)), ""
        try:
            try:
                decoded = decode(path)
            except RadiographError as error:
                if "frames" not in error.reason:
                    raise
                frame = f"refused without a frame number ({error.reason.split(';')[0]}); frame 0: "
                decoded = decode(path, frame=0)
        except RadiographError as error:
            write(f"| {name} | refused: {error.reason} | | | | set aside |")
            continue
        info = decoded.info
        done = f"{frame}{info['transfer_syntax']}, {info['photometric']}, {info['bits_stored']} bits"
        gray = info["mapping"] + (", inverted" if info["inverted"] else "")
        spacing = "absent" if decoded.spacing is None else "{:.3g} x {:.3g}".format(*decoded.spacing)
        verdict = judge(decoded, None, "frontal") if not frame else "several frames"
        write(f"| {name} | {done} | {gray} | {info['turned']} | {spacing} | {verdict or 'taken'} |")
        pictures.append((name[:18], np.round(decoded.pixels * 255).astype(np.uint8)))
    if sheet is not None:
        draw_contact_sheet(pictures, tile=192, columns=8).save(sheet)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--contact-sheet", type=Path)
    arguments = parser.parse_args()
    main(arguments.folder, arguments.contact_sheet)
