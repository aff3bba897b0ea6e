"""Makes the .npy files beside it, with numpy 2: python3 cli/tests/data/make_npy.py"""

import pathlib

import numpy as np

here = pathlib.Path(__file__).parent
array = np.arange(24, dtype="<f4").reshape(2, 3, 4)
structured = [
    ("shape", "<f4"),
    ("", "|V4"),
    ("iq", [("i", "<i2"), ("q", "<i2")], (2, 3)),
    (("a title", "flag"), "|b1"),
]


def save(name, array, version=None):
    with open(here / f"{name}.npy", "wb") as file:
        np.lib.format.write_array(file, array, version)


save("c_order", array)
save("fortran_order", np.asfortranarray(array))
save("version_2", np.arange(5, dtype=">i2"), (2, 0))
save("version_3", np.arange(6, dtype="u1").reshape(3, 2), (3, 0))
save("times", np.array([1, 2], dtype="<M8[25us]"))
save("text", np.array(["a", "bcd"]))
save("structured", np.zeros(2, np.lib.format.descr_to_dtype(structured)))
save("zero_dimensional", np.array(1.0))
save("objects", np.array([None, {}], dtype=object))
save("empty", array[:0, 0])
