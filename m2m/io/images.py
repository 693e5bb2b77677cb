"""Opening of image files: regular files only, of a format that states orientation, of a bounded size.

A header is read and checked before nibabel opens the file, so that no file makes a stage hang or fill the
memory: pipes and devices, headers beyond the file or the memory, gigabytes that decompress from kilobytes.
World coordinates are RAS+ millimetres.

References
----------
NIfTI-1 and NIfTI-2, https://nifti.nimh.nih.gov; MGH,
https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat; CIFTI-2 is a NIfTI-2 with an intent of 3000 to 3099.
"""

import gzip
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from m2m.io.errors import DataError, StorageError, unreadable
from m2m.io.files import MGH, NIFTI, PAIRS, READ, require_regular

# Formats that are refused by name, by their extension.
OTHERS = {
    ".dcm": "DICOM",
    ".ima": "DICOM",
    ".mif": "MRtrix",
    ".mif.gz": "MRtrix",
    ".mnc": "MINC",
    ".mnc.gz": "MINC",
    ".par": "PAR/REC",
    ".rec": "PAR/REC",
    ".head": "AFNI",
    ".brik": "AFNI",
    ".brik.gz": "AFNI",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".gii": "GIFTI (a surface)",
    ".gii.gz": "GIFTI (a surface)",
    ".nii.bz2": "NIfTI compressed by bzip2",
    ".nii.zst": "NIfTI compressed by zstd",
    ".nii.xz": "NIfTI compressed by xz",
}
CONVERT = "convert it to NIfTI, .nii.gz (dcm2niix for DICOM, mri_convert, mrconvert or nibabel for others)"
# What else is found under an image's name, by its first bytes, and what to do.
NO_IMAGES = {
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file: git lfs pull"),
    b"/annex/objects/": ("a pointer of git-annex", "fetch the file: datalad get, or git annex get"),
    b"<": ("a page of text, as of a failed download", "download the image again"),
    b"{": ("JSON", "find the image that it belongs to"),
    b"PK\x03\x04": ("a zip archive", "unpack it"),
    b"BZh": ("compressed by bzip2", CONVERT),
    b"\xfd7zXZ": ("compressed by xz", CONVERT),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", CONVERT),
    b"\x89HDF": ("HDF5, such as MINC", CONVERT),
    b"CDF": ("NetCDF, such as MINC", CONVERT),
    b"NRRD": ("NRRD", CONVERT),
    b"mrtrix": ("of MRtrix", CONVERT),
    b"\x1f\x8b": ("compressed twice", "decompress it once"),
}
CIFTI_INTENTS = range(3000, 3100)
HEADER_BYTES = 540
# Text and extensions between header and voxels take less: readers load them whole.
MOST_EXTENSION_BYTES = 64 * 2**20
# Largest compression factor of Deflate, the algorithm of gzip.
MOST_COMPRESSED = 1032
# Voxels that are read at once: 256 MB in double precision.
SLAB_VOXELS = 2**25


@dataclass(frozen=True)
class Header:
    """What a header states, unchanged: opening an image corrects some of it.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        Of the stored voxels.
    offset : float
        Bytes before the voxels.
    sizes_mm : tuple of float
        Voxel size along the three axes.
    codes : mapping of str to int
        What states the orientation; unknown where none is above 0.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: float
    sizes_mm: tuple[float, ...]
    codes: Mapping[str, int]


@dataclass(frozen=True)
class ImageFile:
    """An open image whose voxels are not read yet.

    Attributes
    ----------
    path : Path
    image : SpatialImage
    header : Header
    shape : tuple of int
        Without axes of length one behind the third: (X, Y, Z, 1) is one volume.
    """

    path: Path
    image: Any
    header: Header
    shape: tuple[int, ...]

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel indices to RAS+ mm, shape (4, 4)."""
        return np.asarray(self.image.affine, dtype=np.float64)

    @property
    def n_voxels(self) -> int:
        """Number of voxels of all volumes."""
        return prod(map(int, self.shape))

    def read(self, index: tuple[Any, ...]) -> NDArray:
        """Read a part, with slope and intercept applied.

        Parameters
        ----------
        index : tuple of slice or int
            For each axis of `shape`.

        Returns
        -------
        ndarray

        Raises
        ------
        DataError
            The file is truncated or damaged.
        """
        further = (0,) * (self.image.ndim - len(self.shape))
        try:
            return np.asanyarray(self.image.dataobj[(*index, *further)])
        except (MemoryError, StorageError):
            raise
        except Exception as error:  # readers raise errors of many kinds for damaged files
            remedy = "the file is truncated or damaged: copy it again"
            raise unreadable(error, "image cannot be read to its end", self.path, remedy) from error


def slabs(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Divide an image into parts of at most `SLAB_VOXELS`, in the order of the file.

    Yields
    ------
    tuple of slice
        For each axis.
    """
    whole = (slice(None),) * len(shape)
    inner = prod(shape[:-1])
    if inner * shape[-1] <= SLAB_VOXELS or len(shape) == 1:
        yield whole
    elif inner > SLAB_VOXELS:
        for i in range(shape[-1]):
            yield from ((*part, slice(i, i + 1)) for part in slabs(shape[:-1]))
    else:
        step = SLAB_VOXELS // inner
        yield from ((*whole[:-1], slice(i, i + step)) for i in range(0, shape[-1], step))


def open_image(path: str | Path) -> ImageFile:
    """Open an image; its voxels are not read.

    Parameters
    ----------
    path : path
        NIfTI-1 or NIfTI-2, one file (.nii, .nii.gz) or a pair (.hdr and .img), or MGH (.mgh, .mgz).

    Returns
    -------
    ImageFile

    Raises
    ------
    DataError
        It is missing, no regular file, of another format, or cannot be read; or the file is too small for the
        header's shape.
    """
    path = Path(path)
    extension = _extension(path)
    header_file, voxel_file = _files_of(path, extension)
    for part in dict.fromkeys((path, header_file, voxel_file)):
        require_regular(part, "image")
    try:
        header = _read_header(header_file, extension)
        if header.offset > MOST_EXTENSION_BYTES:
            raise ValueError(f"its header states {header.offset:.3g} bytes before the voxels")
        _require_voxels(voxel_file, header)
        image: Any = nib.load(path, keep_file_open=True)
        shape = tuple(map(int, image.shape))
        if not isinstance(image, SpatialImage):
            raise ValueError(f"it is a {type(image).__name__}, not an image on a grid")
    except (DataError, StorageError, MemoryError):
        raise
    except Exception as error:  # readers raise errors of many kinds for damaged headers
        raise unreadable(error, "image cannot be read", path, "convert or copy the image again") from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return ImageFile(path, image, header, shape)


def _extension(path: Path) -> str:
    """Extension of a format that is read; DataError, with the format's name, for others."""
    name = path.name.lower()
    for known in READ:
        if name.endswith(known):
            return known
    other = next((title for end, title in OTHERS.items() if name.endswith(end)), "")
    raise DataError(
        f"image is {other}, which m2m does not read" if other else "image is of no format that m2m reads",
        file=path,
        value="".join(path.suffixes[-2:]) or "no extension",
        remedy=CONVERT,
    )


def _files_of(path: Path, extension: str) -> tuple[Path, Path]:
    """Files of the header and of the voxels: two for a pair, the same one otherwise."""
    if extension not in PAIRS:
        return path, path
    stem = path.name[: -len(extension)]
    halves = []
    for half in (".hdr", ".img"):
        names = [path.with_name(f"{stem}{end}") for end in (half, f"{half}.gz", half.upper())]
        found = [name for name in names if os.path.lexists(name)]
        if not found:
            raise DataError(f"the other file of a pair, {half}, is missing", file=path, remedy="copy both files")
        halves.append(found[0])
    return halves[0], halves[1]


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith((".gz", ".mgz"))


def _read_header(path: Path, extension: str) -> Header:
    """Read what a header states, without nibabel's corrections."""
    with path.open("rb") as stream:
        block = stream.read(HEADER_BYTES)
    if not block:
        raise ValueError("the file is empty")
    _require_image(path, block, b"\x1f\x8b")
    compressed = block.startswith(b"\x1f\x8b")
    if compressed != _is_gzip(path) and extension in NIFTI and (compressed or _size_of_header(block) in (348, 540)):
        kind, fitting = ("compressed", ".nii.gz") if compressed else ("not compressed", ".nii")
        raise DataError(
            f"image cannot be read: it is {kind}, unlike its name",
            file=path,
            value=extension,
            remedy=f"rename it, so that it ends in {fitting}",
        )
    if _is_gzip(path):
        with gzip.open(path) as stream:
            block = stream.read(HEADER_BYTES)
        _require_image(path, block)
    return _mgh_header(block) if extension in MGH else _nifti_header(path, block, extension)


def _require_image(path: Path, block: bytes, but: bytes = b"") -> None:
    """Raise DataError, by name, if a file begins as something else than an image."""
    found = [about for start, about in NO_IMAGES.items() if block.startswith(start) and start != but]
    if block[128:132] == b"DICM":
        found = [("DICOM", CONVERT)]
    for kind, remedy in found:
        raise DataError(f"image cannot be read: the file is {kind}", file=path, remedy=remedy)


def _size_of_header(block: bytes) -> int:
    """First number of a NIfTI or Analyze header, the header's size, in either byte order."""
    sizes = (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big"))
    return min(sizes)


def _nifti_header(path: Path, block: bytes, extension: str) -> Header:
    """Header of a NIfTI-1 or NIfTI-2."""
    if block[344:348] in (b"n+1\0", b"ni1\0"):
        raw = nib.Nifti1Header(block[:348], check=False)
    elif block[4:8] in (b"n+2\0", b"ni2\0"):
        raw = nib.Nifti2Header(block, check=False)
    elif _size_of_header(block) == 348:
        raise DataError(
            "image is Analyze, which does not state left and right",
            file=path,
            value=extension,
            remedy="convert from DICOM again, to NIfTI",
        )
    else:
        raise ValueError("it has no header of a NIfTI")
    if isinstance(raw, nib.Nifti2Header) and int(raw["intent_code"]) in CIFTI_INTENTS:
        raise DataError(
            "image is CIFTI: values on a surface, not a volume",
            file=path,
            value=f"intent code {int(raw['intent_code'])}",
            remedy="give the volume that it was made from",
        )
    codes = {name: int(raw[name]) for name in ("qform_code", "sform_code")}
    sizes = tuple(map(float, raw["pixdim"][1:4]))
    return Header(raw.get_data_shape(), raw.get_data_dtype(), float(raw["vox_offset"]), sizes, codes)


def _mgh_header(block: bytes) -> Header:
    """Header of FreeSurfer's MGH."""
    if len(block) < 90 or struct.unpack(">i", block[:4]) != (1,):
        raise ValueError("it has no header of an MGH")
    *shape, kind = struct.unpack(">5i", block[4:24])
    (good,) = struct.unpack(">h", block[28:30])
    sizes = struct.unpack(">3f", block[30:42]) if good > 0 else (1.0, 1.0, 1.0)
    if kind not in MGHHeader._data_type_codes.value_set():
        raise ValueError(f"its data type {kind} is unknown")
    dtype: Any = MGHHeader._data_type_codes.numpy_dtype[kind]
    return Header(tuple(shape), np.dtype(dtype), 284.0, sizes, {"goodRASFlag": good})


def _require_voxels(path: Path, header: Header) -> None:
    """Raise DataError if a file is too small for its header's shape, without reading the voxels."""
    expected = prod(map(int, header.shape)) * header.dtype.itemsize
    available = path.stat().st_size * (MOST_COMPRESSED if _is_gzip(path) else 1)
    if expected > available:
        raise DataError(
            "image is truncated, or its header is wrong",
            file=path,
            value=f"shape {header.shape} is {expected} bytes, the file has at most {available}",
            remedy="copy the file again, or convert from DICOM again",
        )


def memory_bytes() -> int:
    """Memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def require_memory(image: ImageFile, dtype: type) -> None:
    """Raise DataError if an image, with voxels of a data type, is larger than the machine's memory."""
    needed, available = image.n_voxels * np.dtype(dtype).itemsize, memory_bytes()
    if needed > available:
        raise DataError(
            "image is larger than the memory of this machine",
            file=image.path,
            value=f"shape {image.shape}: {needed / 1e9:.3g} GB of {available / 1e9:.3g} GB",
            remedy="resample it to larger voxels, or use a machine with more memory",
        )
