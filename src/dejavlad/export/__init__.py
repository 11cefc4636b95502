"""Models as ONNX files that prove what they answer, and the programs that run them in PyTorch's place."""

from __future__ import annotations

from dejavlad.export.certificate import Certificate, read_certificate
from dejavlad.export.engines import attach
from dejavlad.export.exported_model import ExportedModel, is_export, open_export
from dejavlad.export.make import ExportSetting, export_model

__all__ = [
    "Certificate",
    "ExportSetting",
    "ExportedModel",
    "attach",
    "export_model",
    "is_export",
    "open_export",
    "read_certificate",
]
