"""`dejavlad serve`: maps, training runs and results over HTTP, for people's browsers and for programs.

::

    server      the process: a socket, signals, a clean stop         protocol    connections, bounded
    gate        what is checked of every request before its route    refusal     errors as answers
    app         routes -> handlers                                   openapi     what they are, as a document
    uploads     bodies -> photos, bounded                            upload_file photos as files in memory
    decode_check, decode_child   whether a photo decodes, found out in another process
    inference   the one thread that computes; photos that wait go together
    served_map  a map, its model and what changed on disk            catalogue   its photos, page by page
    writer      photos added and removed, one change after the other
    questions   where was it taken, what is its descriptor           pair_match  do two photos show one place
    report_pages, page_files     pages of runs and results, and the page's own files, which lie in page/
    limits, options, metrics, keep, thumbnails, photo_id             what their names say

Starlette was chosen over FastAPI and Litestar: bodies must be bounded before anything parses them, which is
ours to do anyway; what is left of a framework is routes, and the document of the interface is a table here
(`openapi`). It has one dependency where they have dozens of modules of models.

Nothing is imported here: the process that decodes (`decode_child`) must start without torch.
"""
