"""What a file is, by its first bytes: its ending says only what somebody called it."""

from __future__ import annotations

import re

# As many bytes as `picture_format` looks at: enough for the list of brands in a HEIF file.
HEAD_BYTES = 96

_FIRST_BYTES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    # Raw photos that do not pass for TIFF: of Canon, Fujifilm, Olympus, Panasonic, Minolta and Sigma.
    (b"II*\0\x10\0\0\0CR", "RAW"),
    (b"II\x1a\0\0\0HEAPCCDR", "RAW"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"IIRO", "RAW"),
    (b"IIRS", "RAW"),
    (b"MMOR", "RAW"),
    (b"IIU\0", "RAW"),
    (b"\0MRM", "RAW"),
    (b"FOVb", "RAW"),
    # TIFF and BigTIFF, in both byte orders, and with the order of the magic number muddled.
    *((start, "TIFF") for start in (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")),
    # Pictures, but of formats that photos seldom come in.
    (b"8BPS", "PSD"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"gimp xcf", "XCF"),
    (b"icns", "ICNS"),
    (b"\x76\x2f\x31\x01", "EXR"),
    (b"#?RADIANCE", "HDR"),
    (b"#?RGBE", "HDR"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"\x8aMNG\r\n\x1a\n", "MNG"),
    (b"\x8bJNG\r\n\x1a\n", "JNG"),
    (b"\x3a\xde\x68\xb1", "DCX"),
    (b"\xb1\x68\xde\x3a", "DCX"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"AT&TFORM", "DjVu"),
    (b"/* XPM */", "XPM"),
    (b"<svg", "SVG"),
)
# Formats whose first bytes are too few to tell them by: these must fit as well.
_PATTERNS = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"RIFF....WEBPVP8[ LX]", "WEBP"),
        # The size of the next header tells Windows bitmaps (in the clipboard's form without the first) from texts.
        (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
        (rb"[\x28\x34\x38\x40\x6c\x7c]\0\0\0.{8}\x01\0[\x01\x04\x08\x10\x18\x20]\0", "DIB"),
        # A portable pixmap begins with its kind, width and height, between which there may be comments.
        (rb"P[1-6]\s(?:\s|#[^\r\n]*[\r\n])*(?:\d+\s(?:\s|#[^\r\n]*[\r\n])*\d|#[^\r\n]*\Z)", "PPM"),
        (rb"P7\n", "PAM"),
        (rb"P[Ff]\s+\d", "PFM"),
        # Icons and cursors: how many there are, and of the first the byte that must be naught.
        (rb"\0\0\x01\0[^\0]\0...\0", "ICO"),
        (rb"\0\0\x02\0[^\0]\0...\0", "CUR"),
        (rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]", "PCX"),
        (rb"\x01\xda[\0\x01][\x01\x02]\0[\x01-\x03]", "SGI"),
        (rb"....[\x11\x12]\xaf.{6}\x08\0", "FLI"),
        (rb"%!PS-Adobe-\d\.\d EPSF", "EPS"),
        (rb"\s*<\?xml[^>]*>.*<svg\s", "SVG"),
    )
)
# Files of the ISO base media format (ISO 14496-12, 4.3) name what they are made for; films come in it, too.
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIF"),
    b"crx ": "RAW",
}
_ANY_STILL_PICTURE = (b"mif1", b"msf1")

# Raw photos that pass for TIFF are told by their names, for as TIFF they show no more than a thumbnail.
RAW_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "gpr", "iiq", "kdc", "mef", "mrw", "nef"),
        *("nrw", "orf", "pef", "raf", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
    )
)
# What people call pictures, those that cbir cannot read among them.
PICTURE_SUFFIXES = RAW_SUFFIXES | frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "avif", "avifs", "gif", "tif", "tiff"),
        *("bmp", "dib", "jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "ppm", "pgm", "pbm", "pnm"),
        *("heic", "heics", "heif", "heifs", "hif"),
        *("pfm", "pam", "tga", "qoi", "psd", "psb", "xcf", "dds", "ico", "cur", "icns", "pcx", "dcx", "sgi", "xpm"),
        *("exr", "hdr", "jxl", "jxr", "wdp", "mng", "jng"),
    )
)


def picture_format(head: bytes) -> str | None:
    """The format of a picture file by its first `HEAD_BYTES` bytes, or by all that it has; None if it is no picture.

    Those that `cbir.decode` can read are JPEG, PNG, WEBP, AVIF, HEIF, GIF, TIFF, BMP, DIB, JPEG2000, PPM and RAW; the
    other names are of known formats that it cannot.
    """
    for start, name in _FIRST_BYTES:
        if head.startswith(start):
            return name
    if head[4:8] == b"ftyp":
        return _format_by_brands(head)
    return next((name for pattern, name in _PATTERNS if pattern.match(head)), None)


def _format_by_brands(head: bytes) -> str | None:
    """Of an ISO media file: by the first brand that is a picture's, the major one before the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))]
    named = next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    return "HEIF" if named is None and brands[0] in _ANY_STILL_PICTURE else named
