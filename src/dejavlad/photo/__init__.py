"""Lists of photos: from folders, text files and videos. Photos are never moved or renamed."""

from __future__ import annotations

from dejavlad.photo.folder import folder_photos
from dejavlad.photo.listing import listed_photos, paths_below, write_list, write_names
from dejavlad.photo.photo import Photo, PhotoList
from dejavlad.photo.video import video_photos

__all__ = [
    "Photo",
    "PhotoList",
    "folder_photos",
    "listed_photos",
    "paths_below",
    "video_photos",
    "write_list",
    "write_names",
]
