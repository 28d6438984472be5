"""Write the pictures of the docs."""

from __future__ import annotations

from tests.core.drawing.test_drawings import IMAGES, PICTURES

if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        (IMAGES / f"{name}.svg").write_text(picture())
