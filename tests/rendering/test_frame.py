"""Frames: decoded one by one, with the parameters of their header."""

import tracemalloc

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    XRayAngiographicImageStorage,
)

from apps.rendering.frame import ImageFile, UndecodableFrameError, decode_frame, p_values
from apps.rendering.voi import Lut, Rescale, Window, full_range
from tests.rendering.images import image, opened, write

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def words(*values: int) -> bytes:
    return np.array(values, "<u2").tobytes()


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.name
)
def test_native_syntaxes_give_the_stored_values(tmp_path, syntax):
    assert (opened(tmp_path, image(RAMP), syntax).stored_frame().pixels == RAMP).all()


def test_big_endian_gives_the_stored_values(tmp_path):
    dataset = image(RAMP)
    dataset.PixelData = RAMP.astype(">u2").tobytes()
    dataset["PixelData"].VR = "OW"
    path = tmp_path / "big.dcm"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.save_as(path, implicit_vr=False, little_endian=False)
    assert (ImageFile(path).stored_frame().pixels == RAMP).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_lossless_syntaxes_give_the_stored_values(tmp_path, syntax):
    dataset = image(RAMP)
    dataset.compress(syntax)
    assert (opened(tmp_path, dataset, syntax).stored_frame().pixels == RAMP).all()


def test_bits_above_bits_stored_are_ignored(tmp_path):
    noisy = RAMP | 0xF000
    assert (opened(tmp_path, image(noisy, BitsStored=12, HighBit=11)).stored_frame().pixels == RAMP).all()


def test_signed_values(tmp_path):
    stored = (RAMP.astype(np.int16) - 2048).reshape(64, 64)
    frame = opened(tmp_path, image(stored, WindowCenter=0, WindowWidth=4096)).stored_frame()
    assert p_values(frame, maximum=255)[0, 0] == 0
    assert p_values(frame, maximum=255)[-1, -1] == 255


def test_without_a_window_the_frame_spans_black_to_white(tmp_path):
    frame = opened(tmp_path, image(RAMP + 100)).stored_frame()
    assert frame.default_voi() == full_range(100, 4195)
    assert (p_values(frame, maximum=255).min(), p_values(frame, maximum=255).max()) == (0, 255)


def test_padding_does_not_count_for_the_range(tmp_path):
    stored = (RAMP % 1000).astype(np.int16)
    stored[0, :8], stored[0, 8] = -2000, -1990
    alone = opened(tmp_path, image(stored, PixelPaddingValue=-2000)).stored_frame()
    assert alone.default_voi() == full_range(-1990, 999)
    ranged = opened(tmp_path, image(stored, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1900)).stored_frame()
    assert ranged.default_voi() == full_range(0, 999)


def test_eight_bits_without_a_window_are_shown_as_they_are(tmp_path):
    stored = (RAMP % 100 + 20).astype(np.uint8)
    frame = opened(tmp_path, image(stored)).stored_frame()
    assert (p_values(frame, maximum=255) == stored).all()


def test_voi_lut_is_preferred_to_the_window(tmp_path):
    lut = item(LUTDescriptor=[3, 0, 12], LUTData=words(0, 2000, 4095))
    dataset = image(RAMP, VOILUTSequence=[lut], WindowCenter=40, WindowWidth=400)
    frame = opened(tmp_path, dataset).stored_frame()
    assert frame.voi == (Lut(0, 12, (0, 2000, 4095)), Window(40, 400))


def test_eight_bit_entries_packed_two_to_a_word(tmp_path):
    lut = item(LUTDescriptor=[4, 0, 8], LUTData=bytes([0, 50, 100, 255]))
    frame = opened(tmp_path, image(RAMP, VOILUTSequence=[lut])).stored_frame()
    assert frame.voi == (Lut(0, 8, (0, 50, 100, 255)),)


def test_several_windows_keep_their_order_and_function(tmp_path):
    dataset = image(RAMP, WindowCenter=[40, 300], WindowWidth=[400, 1500], VOILUTFunction="SIGMOID")
    assert opened(tmp_path, dataset).stored_frame().voi == (Window(40, 400, "SIGMOID"), Window(300, 1500, "SIGMOID"))


def test_a_window_without_width_is_no_window(tmp_path):
    frame = opened(tmp_path, image(RAMP, WindowCenter=40, WindowWidth=0)).stored_frame()
    assert frame.voi == ()


def test_modality_lut_of_angiography_is_not_for_display(tmp_path):
    lut = item(LUTDescriptor=[2, 0, 16], LUTData=words(9, 7), ModalityLUTType="US")
    plain = opened(tmp_path, image(RAMP, ModalityLUTSequence=[lut])).stored_frame()
    assert plain.modality == Lut(0, 16, (9, 7))
    angiography = image(RAMP, ModalityLUTSequence=[lut], SOPClassUID=XRayAngiographicImageStorage)
    assert opened(tmp_path, angiography).stored_frame().modality == Rescale()


def enhanced(frames: int) -> Dataset:
    """Frame n has slope n, window n00/n0 and n/10 mm pixels; the shared groups hold the intercept's partner."""
    groups = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[n / 10, n / 10])],
            PixelValueTransformationSequence=[item(RescaleSlope=n, RescaleIntercept=-1)],
            FrameVOILUTSequence=[item(WindowCenter=n * 100, WindowWidth=n * 10)],
        )
        for n in range(1, frames + 1)
    ]
    shared = item(FrameVOILUTSequence=[item(WindowCenter=1, WindowWidth=2)])
    return image(
        RAMP,
        SOPClassUID=EnhancedCTImageStorage,
        NumberOfFrames=frames,
        PixelData=b"".join((RAMP + n).astype("<u2").tobytes() for n in range(frames)),
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[shared],
    )


def test_each_frame_of_an_enhanced_image_has_its_own_parameters(tmp_path):
    file = opened(tmp_path, enhanced(3))
    for number in (1, 2, 3):
        frame = file.stored_frame(number)
        assert frame.pixels[0, 0] == number - 1
        assert frame.modality == Rescale(number, -1)
        assert frame.voi == (Window(number * 100, number * 10),)
        assert frame.spacing.row_mm == number / 10


def test_shared_groups_hold_for_frames_without_their_own(tmp_path):
    dataset = enhanced(2)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.FrameVOILUTSequence
    assert opened(tmp_path, dataset).stored_frame(2).voi == (Window(1, 2),)


def test_a_run_of_frames_is_never_in_memory_as_a_whole(tmp_path):
    big = np.zeros((256, 256), np.uint16)
    path = write(tmp_path, image(big, NumberOfFrames=200, PixelData=bytes(200 * big.nbytes)))  # 26 MB
    ImageFile(path).stored_frame(1)
    tracemalloc.start()
    ImageFile(path).stored_frame(199)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_rgb_by_pixel_and_by_plane(tmp_path):
    rgb = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    assert (opened(tmp_path, image(rgb)).stored_frame().pixels == rgb).all()
    planes = image(rgb, PlanarConfiguration=1, PixelData=rgb.transpose(2, 0, 1).tobytes())
    assert (opened(tmp_path, planes).stored_frame().pixels == rgb).all()


def test_ybr_full_becomes_rgb(tmp_path):
    ybr = np.full((4, 4, 3), (76, 85, 255), np.uint8)  # PS3.3 C.7.6.3.1.2: pure red
    frame = opened(tmp_path, image(ybr, PhotometricInterpretation="YBR_FULL")).stored_frame()
    assert np.abs(frame.pixels.astype(int) - (254, 0, 0)).max() <= 1


def palette(order: str, bits: int, **entries: list[int]) -> dict[str, object]:
    count = len(next(iter(entries.values())))
    return {
        f"{name}PaletteColorLookupTable{part}": value
        for name, values in entries.items()
        for part, value in (("Descriptor", [count, 0, bits]), ("Data", np.array(values, order).tobytes()))
    }


INDICES = np.array([[0, 1], [2, 1]], np.uint8)
WIDE = {"Red": [0, 0x8000, 0xFF00, 0], "Green": [0x1000] * 4, "Blue": [0] * 4}
EXPECTED = [[[0, 16, 0], [128, 16, 0]], [[255, 16, 0], [128, 16, 0]]]


def test_palette_becomes_rgb(tmp_path):
    dataset = image(INDICES, PhotometricInterpretation="PALETTE COLOR", **palette("<u2", 16, **WIDE))
    assert opened(tmp_path, dataset).stored_frame().pixels.tolist() == EXPECTED


def test_palette_of_a_big_endian_file(tmp_path):
    dataset = image(INDICES, PhotometricInterpretation="PALETTE COLOR", **palette(">u2", 16, **WIDE))
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.save_as(tmp_path / "big.dcm", implicit_vr=False, little_endian=False)
    assert ImageFile(tmp_path / "big.dcm").stored_frame().pixels.tolist() == EXPECTED


def test_palette_of_eight_bit_entries(tmp_path):
    narrow = {name: [value >> 8 for value in values] for name, values in WIDE.items()}
    for order in ("u1", "<u2"):
        dataset = image(INDICES, PhotometricInterpretation="PALETTE COLOR", **palette(order, 8, **narrow))
        assert opened(tmp_path, dataset).stored_frame().pixels.tolist() == EXPECTED


def test_a_colour_frame_has_no_p_values(tmp_path):
    frame = opened(tmp_path, image(np.zeros((4, 4, 3), np.uint8))).stored_frame()
    with pytest.raises(ValueError, match="colour"):
        p_values(frame)


def test_what_cannot_be_shown_says_why_and_names_no_person(tmp_path):
    short = image(RAMP, PixelData=b"\0\0", PatientName="Secret^Person")
    no_pixels = image(RAMP, PatientName="Secret^Person")
    del no_pixels.PixelData
    unknown = image(RAMP, PhotometricInterpretation="HSV", PatientName="Secret^Person")
    bad = image(RAMP, PatientName="Secret^Person")
    bad.compress(RLELossless)
    broken = write(tmp_path, bad, RLELossless)
    broken.write_bytes(broken.read_bytes()[:-3000])
    for path, reason in (
        (write(tmp_path, short), "does not fit"),
        (write(tmp_path, no_pixels), "no pixel data"),
        (write(tmp_path, unknown), "'HSV' is not supported"),
        (broken, "RLE Lossless"),
    ):
        with pytest.raises(UndecodableFrameError, match=reason) as caught:
            decode_frame(path)
        assert "Secret" not in str(caught.value)


def test_a_frame_beyond_the_last_is_refused(tmp_path):
    file = opened(tmp_path, image(RAMP))
    for number in (0, 2):
        with pytest.raises(UndecodableFrameError, match="only 1"):
            file.stored_frame(number)


def test_a_file_that_is_no_dicom_is_refused(tmp_path):
    path = tmp_path / "text.dcm"
    path.write_text("nothing of DICOM in here, just words " * 20)
    with pytest.raises(UndecodableFrameError):
        decode_frame(path)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        decode_frame(tmp_path / "away.dcm")
