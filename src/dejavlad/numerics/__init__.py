"""Numbers in, numbers out: k-means and principal components, seeded and deterministic; free of torch."""

from dejavlad.numerics.kmeans import kmeans, nearest
from dejavlad.numerics.pca import Pca, fit_pca, held_out_share, sampling_error

__all__ = ["Pca", "fit_pca", "held_out_share", "kmeans", "nearest", "sampling_error"]
