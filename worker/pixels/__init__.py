"""From a file's bytes to the picture that it shows, for training and service alike.

radiograph   the two ways in: `read_file` and `decode_dicom`
header       parsing and checks before any pixel is decoded
decode       the stored values of a DICOM image
codestream   the size that a compressed stream declares, before it is decoded
blank        the refusal of images that show nothing
render       the values as a screen would show them
picture      PNG and JPEG files
"""

from worker.pixels.radiograph import Radiograph, decode_dicom, read_file

__all__ = ["Radiograph", "decode_dicom", "read_file"]
