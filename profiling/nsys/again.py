"""Reading a capture that was made before, here or on another machine."""

from pathlib import Path
from tempfile import TemporaryDirectory

from slipstream import InputError
from slipstream.profiling.nsys.capture import CaptureFolder, convert, read, read_exported
from slipstream.profiling.nsys.reading import read_export
from slipstream.profiling.nsys.results import Reading
from slipstream.profiling.nsys.tool import find


def read_again(path: Path) -> tuple[Reading, CaptureFolder | None]:
    """Read a folder of ours, a report (``.nsys-rep``), a raw capture (``.qdstrm``) or an export (``.sqlite``).

    Raises:
        InputError: there is none, or the folder holds no capture.
        NsysMissing, NsysFailed, NoExport, SchemaUnknown, NoRanges: see there.
    """
    if path.is_dir():
        return _folder(CaptureFolder(path / "nsys" if (path / "nsys").is_dir() else path))
    if path.suffix not in {".nsys-rep", ".qdstrm"}:
        return read_export(path), None
    if not path.is_file():
        raise InputError(f"there is no {path}", "give a folder that slipstream profile nsys wrote, or a .nsys-rep")
    nsys = find()
    with TemporaryDirectory(prefix="slipstream-nsys-") as aside:
        report = path
        if path.suffix == ".qdstrm":
            report = Path(aside) / "capture.nsys-rep"
            nsys.import_capture(path, report)
        export = Path(aside) / "capture.sqlite"
        nsys.export(report, export)
        return read_export(export), None


def _folder(folder: CaptureFolder) -> tuple[Reading, CaptureFolder]:
    if folder.export.is_file() and not folder.raw.is_file():  # with a raw capture there, its import was not finished
        return read_exported(folder), folder
    if not folder.report.is_file() and not folder.raw.is_file():
        raise InputError(f"{folder.root} holds no capture", "give a folder that slipstream profile nsys wrote")
    nsys = find()
    convert(nsys, folder)
    return read(nsys, folder), folder


__all__ = ["read_again"]
