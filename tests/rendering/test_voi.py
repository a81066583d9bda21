"""The formulae of PS3.3 C.11.1 and C.11.2."""

import numpy as np
import pytest

from apps.rendering.voi import Lut, Rescale, Window, eight_bits, full_range, gray_values


def values_of(window: Window, *stored: float) -> list[float]:
    return [round(float(y), 4) for y in window.normalise(np.array(stored, np.float64))]


def eight(stored, voi, modality=None, is_inverse=False):
    return gray_values(np.asarray(stored), modality or Rescale(), voi, is_inverse, 255).tolist()


def test_linear_window_of_the_standards_example():
    # PS3.3 C.11.2.1.2.1: c=2048, w=4096 gives 0 for x <= 0, 255 for x > 4095, else ((x-2047.5)/4095+0.5)*255
    assert eight(np.array([0, 1, 2047, 2048, 4094, 4095], np.uint16), Window(2048, 4096)) == [0, 0, 127, 127, 254, 255]


def test_linear_window_of_width_one_is_a_step():
    assert values_of(Window(100, 1), 99, 99.5, 99.6, 100) == [0, 0, 1, 1]


def test_linear_exact_window():
    assert values_of(Window(50, 100, "LINEAR_EXACT"), -1, 0, 25, 100, 101) == [0, 0, 0.25, 1, 1]


def test_sigmoid_window():
    assert values_of(Window(100, 40, "SIGMOID"), 100, 110, 90, -1e9, 1e9) == [0.5, 0.7311, 0.2689, 0, 1]


def test_eight_bits_in_their_full_range_stay_as_they_are():
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (gray_values(stored, Rescale(), full_range(0, 255), False, 255) == stored).all()


def test_inversion_comes_before_rounding_down():
    window = Window(2048, 4096)
    stored = np.array([1000], np.uint16)
    assert eight(stored, window) == [62]  # 62.27
    assert eight(stored, window, is_inverse=True) == [192]  # 192.73, not 255 - 62


def test_a_table_gives_what_the_formula_gives_for_every_stored_value():
    window, modality = Window(-20.5, 333), Rescale(1.5, -1024)
    stored = np.arange(-32768, 32768).astype(np.int16).reshape(256, 256)
    direct = np.floor(window.normalise(stored * 1.5 - 1024.0) * 65535 + 1e-6)
    assert (gray_values(stored, modality, window, False) == direct).all()


def test_voi_lut_maps_from_its_first_value_and_holds_its_ends():
    lut = Lut(first=10, bits=12, entries=(0, 2048, 4095))
    assert eight(np.array([0, 10, 11, 12, 99], np.uint16), lut) == [0, 0, 127, 255, 255]


def test_modality_lut_comes_before_the_window():
    modality = Lut(first=-1, bits=16, entries=(500, 600, 700))
    stored = np.array([-5, -1, 0, 1, 5], np.int16)
    assert eight(stored, full_range(500, 700), modality) == [0, 0, 127, 255, 255]


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.float32, np.float64])
def test_wide_and_floating_values_need_no_table(dtype):
    stored = np.array([0, 50, 100], dtype)
    assert eight(stored, Window(50, 100, "LINEAR_EXACT")) == [0, 127, 255]


def test_reducing_to_eight_bits_cuts_off_for_every_p_value():
    p = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert (eight_bits(p) == p // 257).all()
