"""Drawings of pages as inline SVG, coloured by the page's style sheet, light and dark."""
