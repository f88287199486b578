"""What a text becomes in LaTeX and in Markdown: tables for `str.translate`."""

from __future__ import annotations

LATEX = str.maketrans(
    {char: rf"\{char}" for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
    | {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "Δ": r"$\Delta$", "–": "--", "−": "$-$", "×": r"$\times$"}
    | {"τ": r"$\tau$", "σ": r"$\sigma$", "≤": r"$\leq$"}
)
MARKDOWN = str.maketrans({char: rf"\{char}" for char in r"\|*_<>[]`"})
